//! The binary: arguments, logs, and the command to run.

use clap::{Parser, Subcommand};
use livedrop::app::admin::{AdminMade, NewAdmin};
use livedrop::app::keys::{self, KeysTask};
use livedrop::app::offsets::{self, Position};
use livedrop::app::prompt::{self, PromptError};
use livedrop::app::reconcile::{self, PaymentsTask, ReconcileArgs};
use livedrop::app::{self, App, AppError};
use livedrop::backup::{self, BackupOptions};
use livedrop::config::{self, Config, LogFormat, ServeArgs};
use livedrop::console::text::Paint;
use livedrop::console::{self, EXIT_BROKEN, EXIT_UNABLE, JsonReport, write_file};
use livedrop::http::middleware::current_trace;
use livedrop::http::openapi;
use livedrop::service::identity;
use livedrop::storage::{self, Schema, SetAsideDrop, Store, StoreError};
use livedrop::tools::demo::{self, AuditVerdict, DemoOptions};
use livedrop::tools::load::{self, LoadOptions};
use livedrop::tools::sim::{self, SimulateOptions};
use livedrop::tools::stripe_fake::{self, StripeFakeOptions};
use livedrop::tools::verify;
use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Replaces the system's allocator, see docs/adr/0017.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A flash-sale and follow platform: never oversold, nothing acknowledged is ever lost.
#[derive(Parser)]
#[command(name = "livedrop", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Task {
    /// Serve the API (what `livedrop` alone does, too)
    Serve(Box<ServeArgs>),
    /// Play a whole sale on this machine, with a crowd, and audit it
    Demo(DemoOptions),
    /// Run seeded simulations of crashes and lost writes, and audit them: exit 1 if a promise is broken
    Simulate(SimulateOptions),
    /// Send a crowd to a server, measure it, and audit its answers: exit 1 if a promise is broken
    Load(Box<LoadOptions>),
    /// Play Stripe on this machine, for tests: no real money, everything in memory, until it is interrupted
    StripeFake(StripeFakeOptions),
    /// Compare the journal with the database, offline and read-only: exit 0 clean, 1 difference, 2 cannot read
    Verify(VerifyArgs),
    /// Copy database, journal and secret key into a directory, beside a running server
    Backup(Box<BackupArgs>),
    /// Check a backup, and make a data directory from it
    Restore(RestoreArgs),
    /// Bring the database's schema up to date (a start does that, too)
    Migrate(Box<ServeArgs>),
    /// Take a database away from a lost journal, so that another data directory can be started with it. Orders that
    /// only that journal had are lost: those acknowledged after the last projection. Its server must not run
    Adopt(Box<AdoptArgs>),
    /// Print the API's description (OpenAPI 3.1)
    Openapi,
    /// Look after payments
    #[command(subcommand)]
    Payments(PaymentsTask),
    /// Manage administrators
    #[command(subcommand)]
    Admin(AdminTask),
    /// List or retry journal records that the database refused permanently and that were set aside. The server must not
    /// run
    #[command(subcommand)]
    Projection(ProjectionTask),
    /// List, move or retry the journal's consumers, such as the sender of events. The server must not run
    #[command(subcommand)]
    Consumers(ConsumersTask),
    /// List, rotate or prune the keys that encrypt personal data in the database
    #[command(subcommand)]
    Keys(KeysTask),
}

#[derive(Subcommand)]
enum ConsumersTask {
    /// List them, with each one's offset and dead letters
    List(Box<ServeArgs>),
    /// Move a consumer that has an offset of its own
    Reset(Box<ResetArgs>),
    /// Send a consumer's dead letters again: exit 1 if some are still refused
    Retry(Box<ConsumerArgs>),
}

#[derive(clap::Args)]
struct ConsumerArgs {
    /// The consumer's name, such as events
    name: String,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(clap::Args)]
struct ResetArgs {
    /// The consumer's name, such as events
    name: String,
    /// The new position: start (the oldest kept record), end, or the number of the last record that is done
    #[arg(long, value_name = "POSITION")]
    to: Position,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum ProjectionTask {
    /// List the drops with such records, and the reasons
    List(Box<ServeArgs>),
    /// Apply them once the cause is fixed, each drop's in order (a start tries that, too): exit 1 if some are left
    Retry(Box<ServeArgs>),
}

#[derive(Subcommand)]
enum AdminTask {
    /// Create an administrator. The password is asked for at a terminal, else it is the first line of standard input
    Create(Box<AdminArgs>),
}

#[derive(clap::Args)]
struct AdminArgs {
    /// The account's e-mail address
    #[arg(long)]
    email: String,
    /// The public name of a new account
    #[arg(long, default_value = "Administrator")]
    display_name: String,
    /// Promote the account if the address has one: its password is replaced, and all its logins end
    #[arg(long)]
    promote_existing: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(clap::Args)]
struct AdoptArgs {
    /// Do it; without this flag, only say what would be lost
    #[arg(long)]
    yes: bool,
    /// Undo it for the journal in the data directory, unless another has started on the database
    #[arg(long, conflicts_with = "yes")]
    give_back: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(clap::Args)]
struct BackupArgs {
    /// The backup's directory: empty, or not existing yet
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    serve: ServeArgs,
    /// The command that copies a Postgres database, run while the journal is held; its files may go into
    /// $LIVEDROP_BACKUP_DATABASE_DIR
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(clap::Args)]
struct RestoreArgs {
    /// The directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The new data directory: empty, or not existing yet
    #[arg(long, value_name = "DIR", default_value = "./data", env = "LIVEDROP_DATA_DIR")]
    data_dir: PathBuf,
}

#[derive(clap::Args)]
struct VerifyArgs {
    /// The stopped server's data directory
    #[arg(long, value_name = "DIR", default_value = "./data", env = "LIVEDROP_DATA_DIR")]
    data_dir: PathBuf,
    /// Its database [default: sqlite://<data-dir>/livedrop.db]
    #[arg(long, value_name = "URL", env = "LIVEDROP_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    #[command(flatten)]
    json: JsonReport,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let run = |task: Pin<Box<dyn Future<Output = ExitCode>>>| actix::System::new().block_on(task);
    if let Err(error) = config::check_environment() {
        return fail(2, &error);
    }
    match cli.command.unwrap_or_else(|| Task::Serve(Box::new(cli.serve))) {
        // These start runtimes of their own, or need none.
        Task::Simulate(options) => simulate(&options),
        Task::Load(options) => run_load(&options),
        Task::Openapi => print_openapi(),
        Task::Serve(args) => run(Box::pin(async move { serve(&args).await })),
        Task::Demo(options) => run(Box::pin(run_demo(options))),
        Task::StripeFake(options) => run(Box::pin(run_stripe_fake(options))),
        Task::Verify(args) => run(Box::pin(async move { run_verify(&args).await })),
        Task::Backup(args) => run(Box::pin(run_backup(*args))),
        Task::Restore(args) => run_restore(&args),
        Task::Migrate(args) => run(Box::pin(async move { migrate(&args).await })),
        Task::Adopt(args) => run(Box::pin(async move { adopt(&args).await })),
        Task::Projection(ProjectionTask::List(args)) => {
            run(Box::pin(
                async move { on_database(&args, async |config, store| list_aside(config, &*store).await).await },
            ))
        }
        Task::Projection(ProjectionTask::Retry(args)) => {
            run(Box::pin(
                async move { on_database(&args, async |config, store| retry_aside(config, &*store).await).await },
            ))
        }
        Task::Consumers(ConsumersTask::List(args)) => run(Box::pin(async move {
            on_database(&args, async |config, store| {
                println!("{:<12} {:<8} {:>12} {:>6}", "consumer", "keeps", "offset", "dead");
                offsets::list(config, &*store).await?.iter().for_each(|listed| println!("{listed}"));
                Ok(())
            })
            .await
        })),
        Task::Consumers(ConsumersTask::Reset(args)) => reset_consumer(&args),
        Task::Consumers(ConsumersTask::Retry(args)) => run(Box::pin(async move {
            let name = &args.name;
            on_database(&args.serve, async |config, store| retry_consumer(config, &*store, name).await).await
        })),
        Task::Keys(task) => run(Box::pin(async move {
            on_database(task.settings(), async |config, store| keys::run(&task, config, &*store).await).await
        })),
        Task::Payments(PaymentsTask::Reconcile(args)) => run(Box::pin(async move { run_reconcile(&args).await })),
        Task::Admin(AdminTask::Create(args)) => run(Box::pin(create_admin(*args))),
    }
}

/// Prints one readable line, and returns the exit code.
fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("livedrop: {error}");
    ExitCode::from(code)
}

/// The exit code after a report: a failed delivery counts first, the report's result second.
fn ended(delivered: Result<(), String>, kept: bool) -> ExitCode {
    match delivered {
        Err(error) => fail(EXIT_UNABLE, &error),
        Ok(()) if kept => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(EXIT_BROKEN),
    }
}

async fn serve(args: &ServeArgs) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => return fail(2, &error),
    };
    log_to_stderr(&config.log, config.log_format);
    let app = match App::start(&config).await {
        Ok(app) => app,
        Err(AppError::Interrupted(signal)) => {
            info!(signal, "shutdown complete: the server was not up yet");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(1, &error),
    };
    greet(&config, &app);
    match app.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn greet(config: &Config, app: &App) {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{}", app.address);
    // The URL may contain a password: only its kind is shown.
    let url = config.database_url.expose();
    let database = match url.strip_prefix("sqlite:") {
        Some(path) => format!("sqlite, {}", path.trim_start_matches("//")),
        None => "postgres".to_owned(),
    };
    let durability = match config.durability.to_string().as_str() {
        "always" => "always: every answer is on disk before it leaves".to_owned(),
        weaker => format!("{weaker}: a power cut may take back what was acknowledged last"),
    };
    let payments = format!("{}, {}", config.payments, config.payments.meaning());
    let text = format!(
        "livedrop listening on {base}\n  database    {database}\n  durability  {durability}\n  payments    {payments}\n  first call  curl {base}/api/v1/drops\n  the API     {base}/docs\n"
    );
    // The parent process may have closed the pipe; that is no reason to stop.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Migrates the schema; a missing database is created, as a first start does.
async fn migrate(args: &ServeArgs) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => return fail(2, &error),
    };
    let done = async {
        app::create_data_dir(&config.data_dir).map_err(|error| error.to_string())?;
        let store = storage::connect(config.database_url.expose()).await.map_err(|error| error.to_string())?;
        let migrated = async {
            let before = store.schema().await?;
            store.migrate().await?;
            identity::key_accounts(&*store).await?;
            Ok::<_, StoreError>(before)
        };
        let migrated = migrated.await.map_err(|error| error.to_string());
        store.close().await;
        migrated
    };
    match done.await {
        Ok(before) => {
            let done = match before {
                Schema::Absent => "the schema is made",
                Schema::Older => "the schema is brought up to date",
                Schema::Current | Schema::Newer => "the schema was up to date",
            };
            console::print(&format!("{done}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error),
    }
}

/// Runs a command on an existing database with this version's schema: a mistyped URL creates no database, and a running
/// server keeps the schema that it knows.
async fn on_database(
    args: &ServeArgs,
    task: impl AsyncFnOnce(&Config, Arc<dyn Store>) -> Result<(), String>,
) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => return fail(2, &error),
    };
    let done = async {
        let store = storage::connect_existing(config.database_url.expose()).await.map_err(|error| error.to_string())?;
        let done = match app::require_schema(&*store).await {
            Ok(()) => task(&config, Arc::clone(&store)).await,
            Err(error) => Err(error),
        };
        store.close().await;
        done
    };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

async fn adopt(args: &AdoptArgs) -> ExitCode {
    on_database(&args.serve, async |config, store| {
        let done = match args.give_back {
            true => app::give_back(config, &*store).await?,
            false => app::adopt(&*store, args.yes).await?,
        };
        println!("{done}");
        Ok(())
    })
    .await
}

async fn list_aside(config: &Config, store: &dyn Store) -> Result<(), String> {
    let drops = livedrop::app::projection::list(config, store).await?;
    print!("{}", said_aside(&drops));
    Ok(())
}

async fn retry_aside(config: &Config, store: &dyn Store) -> Result<(), String> {
    let retried = livedrop::app::projection::retry(config, store).await?;
    println!("applied {} records", retried.applied);
    if retried.left.is_empty() {
        Ok(())
    } else {
        Err(format!("some are left\n{}", said_aside(&retried.left).trim_end()))
    }
}

fn said_aside(drops: &[SetAsideDrop]) -> String {
    if drops.is_empty() {
        return "no record is set aside\n".to_owned();
    }
    let line = |drop: &SetAsideDrop| {
        let SetAsideDrop { drop, first_sequence, records, reason } = drop;
        format!("drop {drop}: {records} records from {first_sequence} on: {reason}\n")
    };
    drops.iter().map(line).collect()
}

fn reset_consumer(ResetArgs { name, to, serve }: &ResetArgs) -> ExitCode {
    match Config::load(serve) {
        Err(error) => fail(2, &error),
        Ok(config) => match offsets::reset(&config, name, *to) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error),
        },
    }
}

async fn retry_consumer(config: &Config, store: &dyn Store, name: &str) -> Result<(), String> {
    let retried = offsets::retry(config, store, name).await?;
    println!("taken {}", retried.taken);
    retried.left.map_or(Ok(()), |(left, reason)| Err(format!("{left} are left: {reason}")))
}

async fn create_admin(args: AdminArgs) -> ExitCode {
    let AdminArgs { email, display_name, promote_existing, serve } = args;
    // Checked before the password is asked for.
    if let Err(error) = NewAdmin::email(email.clone()) {
        return fail(2, &error);
    }
    let password = match prompt::new_password().await {
        Ok(password) => password,
        // Exits at once: a thread still waits for the terminal.
        Err(PromptError::Interrupted) => std::process::exit(130),
        Err(error) => return fail(2, &error),
    };
    let new = match NewAdmin::new(email, display_name, password, promote_existing) {
        Ok(new) => new,
        Err(error) => return fail(2, &error),
    };
    on_database(&serve, async |config, store| {
        match new.make(config, store).await? {
            AdminMade::Created(user) => println!("{} is an administrator", user.email),
            AdminMade::Promoted(user) => println!(
                "{} is an administrator from the next login on; its password was replaced and every login of it has ended",
                user.email
            ),
        }
        Ok(())
    })
    .await
}

async fn run_demo(options: DemoOptions) -> ExitCode {
    let json = options.json.clone();
    let audit = async |data_dir: PathBuf, url: Option<String>| audit(&data_dir, url).await;
    match demo::run(options, audit).await {
        Ok(report) => {
            let text = report.to_text(Paint::for_stdout());
            ended(json.deliver(&report, &text), report.promises_kept())
        }
        Err(error) => fail(error.exit_code(), &error),
    }
}

async fn run_stripe_fake(options: StripeFakeOptions) -> ExitCode {
    let greet = |base: &str| {
        console::print(&format!(
            "stripe-fake listening on {base}\n  the API     {base}/v1 (any key sk_test_…)\n  the books   curl {base}/fake/books\n"
        ));
    };
    match stripe_fake::run(options, greet).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn print_openapi() -> ExitCode {
    match std::io::stdout().write_all(openapi::TEXT.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

async fn run_backup(args: BackupArgs) -> ExitCode {
    let config = match Config::load(&args.serve) {
        Ok(config) => config,
        Err(error) => return fail(2, &error),
    };
    let BackupArgs { to, command, .. } = args;
    let database_url = config.database_url.expose().to_owned();
    let options = BackupOptions { data_dir: config.data_dir.clone(), database_url, to, command };
    match backup::take(&options).await {
        Ok(manifest) => {
            print!("{}", manifest.rendered(&options.to));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error),
    }
}

fn run_restore(args: &RestoreArgs) -> ExitCode {
    match backup::restore(&args.from, &args.data_dir) {
        Ok(restored) => {
            print!("{}", restored.rendered(&args.data_dir));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error),
    }
}

fn simulate(options: &SimulateOptions) -> ExitCode {
    match sim::run(options) {
        Ok(report) => {
            let delivered = options.json.deliver(&report, &report.rendered());
            ended(delivered, report.broken.is_none())
        }
        Err(error) => fail(EXIT_UNABLE, &error),
    }
}

fn run_load(options: &LoadOptions) -> ExitCode {
    match load::run(options) {
        Ok(report) => {
            let page = options.html.as_deref().map_or(Ok(()), |path| write_file(path, &load::page(&report)));
            let delivered = options.json.deliver(&report, &report.rendered());
            ended(page.and(delivered), report.is_clean())
        }
        Err(error) => fail(error.exit_code(), &error),
    }
}

async fn audit(data_dir: &Path, url: Option<String>) -> Result<AuditVerdict, String> {
    let report = examine(data_dir, url).await?;
    let confirmed_units = report.confirmed_units.iter().filter_map(|(id, units)| Some((id.parse().ok()?, *units)));
    Ok(AuditVerdict {
        clean: report.is_clean(),
        orders: report.orders,
        confirmed_units: confirmed_units.collect(),
        findings: report.findings,
    })
}

async fn examine(data_dir: &Path, url: Option<String>) -> Result<verify::VerifyReport, String> {
    let url = url.unwrap_or_else(|| storage::sqlite_url(&data_dir.join("livedrop.db")));
    let store = storage::connect_existing(&url).await.map_err(|error| error.to_string())?;
    let report = verify::verify(data_dir, &*store).await.map_err(|error| error.to_string());
    store.close().await;
    report
}

async fn run_verify(args: &VerifyArgs) -> ExitCode {
    let report = match examine(&args.data_dir, args.database_url.clone()).await {
        Ok(report) => report,
        Err(error) => return fail(EXIT_UNABLE, &error),
    };
    ended(args.json.deliver(&report, &report.render()), report.is_clean())
}

async fn run_reconcile(args: &ReconcileArgs) -> ExitCode {
    match reconcile::reconcile(args).await {
        Ok(report) => ended(args.target().deliver(&report, &report.render()), report.is_clean()),
        Err(error) => fail(EXIT_UNABLE, &error),
    }
}

fn log_to_stderr(filter: &str, format: LogFormat) {
    // actix-server logs each worker's start, and actix-http logs clients' mistakes as errors; an operator can turn both
    // on.
    let filter = format!("actix_server=warn,actix_http=off,{filter}");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_target(false).with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    log_panics();
}

/// Logs a panic in one line, with the trace of its request. Backtraces are added if the environment asks for them.
fn log_panics() {
    let usual = std::panic::take_hook();
    let backtraces = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or("(no text)");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("(no name)");
        if tracing::enabled!(tracing::Level::ERROR) {
            let trace = current_trace::get().map(tracing::field::display);
            tracing::error!(panic = text, place, thread, trace_id = trace, "panicked");
        } else {
            eprintln!("livedrop: panicked: {text:?} at {place} in {thread}");
        }
        if backtraces {
            usual(panic);
        }
    }));
}
