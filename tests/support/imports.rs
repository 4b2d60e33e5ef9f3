//! The imports between source files, and their cycles.
//!
//! An import counts where the item is defined: a `pub use` on the way is no import. A parent that declares its children
//! imports none of them. Files of tests do not count: they are part of the file that they test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module, from the crate's root.
type Module = Vec<String>;

/// A text for each cycle of files.
pub fn cycles(src: &Path) -> Vec<String> {
    let mut files = BTreeMap::new();
    read(src, &mut Vec::new(), &mut files);
    assert!(files.len() > 100, "only {} files in {}", files.len(), src.display());
    let mut aliases = BTreeMap::new();
    for (module, text) in &files {
        for path in uses(text).into_iter().filter(|(public, _)| *public).map(|(_, path)| path) {
            let (target, name) = split_alias(&path);
            if let Some(target) = resolve(module, &target, &files) {
                aliases.insert((module.clone(), name), target);
            }
        }
    }
    let imports: BTreeMap<&Module, BTreeSet<Module>> =
        files.iter().map(|(module, text)| (module, imports_of(module, text, &files, &aliases))).collect();
    let mut found = BTreeSet::new();
    for module in files.keys() {
        if let Some(circle) = circle_through(module, &imports) {
            let mut names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            names.sort();
            found.insert(names.join(" <-> "));
        }
    }
    found.into_iter().collect()
}

/// The shortest way from a module back to itself.
fn circle_through(start: &Module, imports: &BTreeMap<&Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut before: BTreeMap<Module, Module> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start.clone()]);
    while let Some(module) = queue.pop_front() {
        for next in imports.get(&module).into_iter().flatten() {
            if next == start {
                let mut circle = vec![module.clone()];
                while let Some(previous) = before.get(circle.last().expect("it has a beginning")) {
                    circle.push(previous.clone());
                }
                return Some(circle);
            }
            if !before.contains_key(next) {
                before.insert(next.clone(), module.clone());
                queue.push_back(next.clone());
            }
        }
    }
    None
}

fn read(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if name.ends_with("tests") || name == "fixtures" {
            continue;
        }
        module.push(name.clone());
        if path.is_dir() {
            read(&path, module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "main" {
            let at = if name == "mod" || name == "lib" { &module[..module.len() - 1] } else { &module[..] };
            files.insert(at.to_vec(), without_tests(&fs::read_to_string(&path).expect("a readable file")));
        }
        module.pop();
    }
}

/// The text without comments, visibilities and modules of tests.
fn without_tests(text: &str) -> String {
    let (mut kept, mut lines) = (String::new(), text.lines().peekable());
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{')) {
            lines.by_ref().find(|line| *line == "}");
        } else if !line.trim_start().starts_with("//") {
            let line = match (line.find("pub(in "), line.find(") ")) {
                (Some(begin), Some(end)) if begin < end => format!("{}pub {}", &line[..begin], &line[end + 2..]),
                _ => line.to_owned(),
            };
            kept.push_str(&line);
            kept.push('\n');
        }
    }
    kept
}

/// The paths of all `use` declarations at the file's top level, and whether they are public.
fn uses(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rfind('\n').map_or(0, |end| end + 1);
        let head = &rest[line..at];
        let end = at + rest[at..].find(';').unwrap_or(rest.len() - at - 1);
        // Not the end of another word, such as in `pub enum Cause {`.
        if head.is_empty() || (head.starts_with("pub") && head.ends_with(' ')) {
            let mut paths = Vec::new();
            leaves("", &rest[at + 4..end], &mut paths);
            found.extend(paths.into_iter().map(|path| (!head.is_empty(), path)));
        }
        rest = &rest[end + 1..];
    }
    found
}

/// Every single path in a `use` tree.
fn leaves(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        if !tree.is_empty() {
            found.push(format!("{prefix}{tree}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let body = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in body.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                leaves(&prefix, &body[begin..at], found);
                begin = at + 1;
            }
            _ => {}
        }
    }
    leaves(&prefix, &body[begin..], found);
}

/// Splits a path from the name that it has here: its alias or its last part.
fn split_alias(path: &str) -> (String, String) {
    let (path, alias) = path.split_once(" as ").map_or((path, None), |(path, alias)| (path, Some(alias.trim())));
    let path = path.trim().trim_end_matches("::self").to_owned();
    let name = alias.unwrap_or_else(|| path.rsplit("::").next().expect("a part")).to_owned();
    (path, name)
}

/// A path from the crate's root; `None` where it leads out of the crate.
fn resolve(module: &Module, path: &str, files: &BTreeMap<Module, String>) -> Option<Module> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut at = match *parts.peek()? {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        first => {
            let child: Module = module.iter().cloned().chain([first.to_owned()]).collect();
            files.contains_key(&child).then(|| module.clone())?
        }
    };
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => _ = at.pop(),
            name => at.push(name.to_owned()),
        }
    }
    Some(at)
}

/// The files that a module imports from.
fn imports_of(
    module: &Module,
    text: &str,
    files: &BTreeMap<Module, String>,
    aliases: &BTreeMap<(Module, String), Module>,
) -> BTreeSet<Module> {
    let named = uses(text).into_iter().filter(|(public, _)| !public).map(|(_, path)| split_alias(&path).0);
    let within = text.lines().filter(|line| !line.contains("use ")).flat_map(paths_in);
    let mut found = BTreeSet::new();
    for path in named.chain(within) {
        let Some(target) = resolve(module, &path, files) else { continue };
        let mut target = definition(target, files, aliases);
        while !target.is_empty() && !files.contains_key(&target) {
            target.pop();
        }
        if target != *module && !target.is_empty() {
            found.insert(target);
        }
    }
    found
}

/// Paths from `crate`, `super` or `self` in a line of code.
fn paths_in(line: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = line.split(|letter: char| !is_part(letter));
    let rooted = |word: &&str| ["crate::", "super::", "self::"].iter().any(|root| word.starts_with(root));
    words.filter(rooted).map(|word| word.trim_end_matches(':').to_owned()).collect()
}

/// Follows `pub use` to where an item is defined.
fn definition(
    mut path: Module,
    files: &BTreeMap<Module, String>,
    aliases: &BTreeMap<(Module, String), Module>,
) -> Module {
    for _ in 0..8 {
        let follow = (0..path.len()).rev().find_map(|length| {
            let (parent, rest) = path.split_at(length);
            let is_item = files.contains_key(parent) && !files.contains_key(&path[..=length]);
            let target = is_item.then(|| aliases.get(&(parent.to_vec(), rest[0].clone())))??;
            Some(target.iter().chain(&rest[1..]).cloned().collect())
        });
        match follow {
            Some(next) => path = next,
            None => break,
        }
    }
    path
}

#[test]
fn circles_are_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    (0..100).for_each(|n| write(&format!("filler{n}.rs"), ""));
    write("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::B;");
    write("a.rs", "use crate::{B, filler1};\npub struct A;");
    write("b.rs", "use super::c::C;\npub struct B;");
    write("c.rs", "// use crate::a::A;\npub struct C;");
    assert_eq!(cycles(folder.path()), Vec::<String>::new());
    write("c.rs", "pub struct C(crate::a::A);");
    assert_eq!(cycles(folder.path()), ["a <-> b <-> c"]);
    write("c.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}");
    assert_eq!(cycles(folder.path()), Vec::<String>::new());
}
