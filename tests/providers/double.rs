//! What the HTTP doubles of key services have in common: answers that a test asks for, and calls that it can count.

use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;

use axum::Router;

/// What a double answers in place of what it stands for.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A status and a body.
    Says(u16, String),
    /// Nothing, ever.
    Never,
}

/// The state of a double that takes calls of the kind `C`, by the name of the key that each is for.
pub(crate) struct Double<C> {
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
    calls: Mutex<Vec<(String, C)>>,
}

impl<C> Default for Double<C> {
    fn default() -> Self {
        Self { answers: Mutex::default(), calls: Mutex::default() }
    }
}

impl<C> Double<C> {
    /// From here on, calls for `key` get these answers, one each, and after them what the double is for.
    pub(crate) fn answer_with(&self, key: &str, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().insert(key.to_owned(), answers.into_iter().collect());
    }

    /// The calls for `key` since the last time that somebody asked.
    pub(crate) fn take_calls(&self, key: &str) -> Vec<C> {
        self.calls.lock().unwrap().extract_if(.., |(of, _)| of == key).map(|(_, call)| call).collect()
    }

    /// Keeps `call`.
    pub(crate) fn note(&self, key: &str, call: C) {
        self.calls.lock().unwrap().push((key.to_owned(), call));
    }

    /// Keeps `call`, and says what a test wants it answered with, if anything.
    pub(crate) fn next(&self, key: &str, call: C) -> Option<Answer> {
        self.note(key, call);
        self.answers.lock().unwrap().get_mut(key).and_then(VecDeque::pop_front)
    }
}

/// Serves `router` to the end of the process, in a thread of its own: the runtime of the test that was first ends with it.
pub(crate) fn serve(listener: TcpListener, router: Router) {
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
}
