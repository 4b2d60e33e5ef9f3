//! The trace of the request that a thread is handling.

use crate::domain::TraceId;
use pin_project_lite::pin_project;
use std::cell::Cell;
use std::pin::Pin;
use std::task::{self, Poll};

/// The trace of the request that this thread is handling; a new one outside a request.
#[must_use]
pub fn id() -> TraceId {
    get().unwrap_or_else(TraceId::random)
}

/// The trace of the request that this thread is handling, if there is one.
#[must_use]
pub fn get() -> Option<TraceId> {
    CURRENT.get()
}

thread_local! {
    /// The current request's trace.
    static CURRENT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

pin_project! {
    /// A future that is polled with a current trace. Tokio's task-locals would copy the answer several times on its way
    /// out.
    pub struct Within<F> {
        pub trace: TraceId,
        #[pin]
        pub future: F,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<F::Output> {
        /// Restores the previous trace: requests alternate on a thread, and may be polled inside one another.
        struct Before(Option<TraceId>);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let this = self.project();
        let _before = Before(CURRENT.replace(Some(*this.trace)));
        this.future.poll(context)
    }
}
