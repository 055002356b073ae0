//! One call to a key service for all vaults of a process that need the same key at the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{CachePeriod, KeyBytes, MasterKey, MasterKeyProvider, ProviderContext, ProviderRecord};
use crate::error::Result;
use crate::id::MasterKeyId;

/// How long anybody waits for another's call: longer than a service is asked, and less than a call of the vault may take. What
/// takes longer is a call that stands still, as its runtime does, or one that had to log in first.
const WAIT: Duration = Duration::from_secs(24);

/// The calls under way. Nothing is held here that nobody waits for.
static CALLS: Mutex<BTreeMap<Question, Arc<Call>>> = Mutex::new(BTreeMap::new());

fn calls() -> MutexGuard<'static, BTreeMap<Question, Arc<Call>>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A provider by its spec: who asks it for a key while another asks one of the same spec for the same key has that one's
/// answer, be it an error. Who comes when it is there asks anew.
pub(super) struct OneCall<P> {
    spec: String,
    provider: P,
}

impl<P> OneCall<P> {
    pub(super) fn new(spec: &str, provider: P) -> Self {
        Self { spec: spec.to_owned(), provider }
    }
}

/// What a provider is asked: the spec, the context and the record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question(String, Vec<u8>, String);

/// A call's answer, held by who makes the call.
type Call = tokio::sync::Mutex<Option<Result<MasterKey>>>;

/// A call that somebody makes or waits for.
struct Joined {
    question: Question,
    call: Arc<Call>,
}

impl Joined {
    fn new(question: Question) -> Self {
        let call = Arc::clone(calls().entry(question.clone()).or_default());
        Self { question, call }
    }

    /// Nobody joins it from now on.
    fn close(&self) {
        let mut calls = calls();
        if calls.get(&self.question).is_some_and(|call| Arc::ptr_eq(call, &self.call)) {
            calls.remove(&self.question);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut calls = calls();
        // Given up before the lock is: of two who leave at once one sees that it is the last.
        let left = Arc::as_ptr(&std::mem::take(&mut self.call));
        let is_last = |call: &Arc<Call>| Arc::as_ptr(call) == left && Arc::strong_count(call) == 1;
        if calls.get(&self.question).is_some_and(is_last) {
            calls.remove(&self.question);
        }
    }
}

/// An answer for another who waited for it.
fn copy(answer: &Result<MasterKey>) -> Result<MasterKey> {
    match answer {
        Ok(key) => Ok(MasterKey::new(key.id(), KeyBytes::copy_of(key.bytes().expose())?)),
        Err(error) => Err(error.again()),
    }
}

#[async_trait]
impl<P: MasterKeyProvider> MasterKeyProvider for OneCall<P> {
    fn kind(&self) -> &'static str {
        self.provider.kind()
    }

    fn opens(&self, kind: &str) -> bool {
        self.provider.opens(kind)
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        self.provider.create(context).await
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        let question = Question(self.spec.clone(), context.associated_data(), record.as_str().to_owned());
        loop {
            let joined = Joined::new(question.clone());
            let Ok(mut answer) = tokio::time::timeout(WAIT, joined.call.lock()).await else {
                joined.close();
                continue;
            };
            // None: nobody has made the call yet, or who did has ended without an answer.
            if let Some(answer) = answer.as_ref() {
                return copy(answer);
            }
            let given = self.provider.unlock(record, context).await;
            joined.close();
            *answer = Some(copy(&given));
            return given;
        }
    }

    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        self.provider.wrap(key, context).await
    }

    fn cache(&self) -> Option<CachePeriod> {
        self.provider.cache()
    }

    async fn ids(&self) -> Result<Vec<MasterKeyId>> {
        self.provider.ids().await
    }
}

impl<P: fmt::Debug> fmt::Debug for OneCall<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.provider.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use uuid::Uuid;

    use super::*;
    use crate::error::{Error, ErrorKind};

    /// A service that answers once it may, with a key that says how often it was asked, or refuses.
    #[derive(Debug, Default)]
    struct Service {
        asked: AtomicUsize,
        refuses: bool,
        may_answer: Option<Semaphore>,
    }

    impl Service {
        fn slow(refuses: bool) -> Arc<Self> {
            Arc::new(Self { refuses, may_answer: Some(Semaphore::new(0)), ..Self::default() })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }

        fn answer(&self) {
            self.may_answer.iter().for_each(|may| may.add_permits(1_000));
        }
    }

    #[async_trait]
    impl MasterKeyProvider for Arc<Service> {
        fn kind(&self) -> &'static str {
            "service"
        }

        async fn create(&self, _: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
            Err(Error::new(ErrorKind::Unsupported, "no key is made here"))
        }

        async fn unlock(&self, _: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if let Some(may) = &self.may_answer {
                may.acquire().await.expect("it is never closed").forget();
            }
            if self.refuses {
                return Err(Error::new(ErrorKind::Provider, "throttled").retryable());
            }
            Ok(MasterKey::new(context.master_key_id, KeyBytes::copy_of(&[asked as u8; 32])?))
        }
    }

    const MANY: usize = 100;

    /// A question of its own for each test, and one that differs from it.
    fn question(number: u128) -> (ProviderRecord, ProviderContext) {
        let context = ProviderContext::new(Uuid::from_u128(number).into(), Uuid::from_u128(number).into());
        (ProviderRecord::new(String::from("record")).unwrap(), context)
    }

    fn unlock_many(service: &Arc<Service>, number: u128) -> JoinSet<Result<MasterKey>> {
        (0..MANY)
            .map(|_| {
                let provider = OneCall::new("service:1", Arc::clone(service));
                async move {
                    let (record, context) = question(number);
                    provider.unlock(&record, &context).await
                }
            })
            .collect()
    }

    /// Lets all tasks come to where they wait.
    async fn settle() {
        for _ in 0..2 * MANY {
            tokio::task::yield_now().await;
        }
    }

    /// Polls it once.
    async fn begin(call: &mut (impl Future<Output = Result<MasterKey>> + Unpin)) {
        tokio::select! {
            biased;
            _ = call => panic!("nothing has answered"),
            () = std::future::ready(()) => {}
        }
    }

    fn waiting(number: u128) -> bool {
        let (_, context) = question(number);
        calls().keys().any(|question| question.1 == context.associated_data())
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_has_the_answer_of_one_call_and_who_comes_later_asks_anew() {
        let service = Service::slow(false);
        let many = unlock_many(&service, 1);
        settle().await;
        service.answer();
        let keys = many.join_all().await;
        assert_eq!((service.asked(), keys.len(), waiting(1)), (1, MANY, false));
        assert!(keys.iter().all(|key| key.as_ref().unwrap().bytes().expose() == &[0; 32]));
        let later = unlock_many(&service, 1).join_all().await;
        assert!(later.iter().all(|key| key.as_ref().unwrap().bytes().expose() != &[0; 32]));
    }

    #[tokio::test]
    async fn an_error_is_everybodys_that_asked_and_nobodys_that_asks_later() {
        let service = Service::slow(true);
        let many = unlock_many(&service, 2);
        settle().await;
        service.answer();
        for key in many.join_all().await {
            let error = key.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Provider, true));
            assert_eq!(error.to_string(), "throttled");
        }
        assert_eq!(service.asked(), 1);
        unlock_many(&service, 2).join_all().await;
        assert!(service.asked() > 1 && !waiting(2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_the_answer_asks_anew_though_not_all_have_it_yet() {
        let service = Service::slow(false);
        let (record, context) = question(6);
        let [first, slow, later] = [(); 3].map(|()| OneCall::new("service:1", Arc::clone(&service)));
        let (mut first, mut slow) = (first.unlock(&record, &context), slow.unlock(&record, &context));
        begin(&mut first).await;
        begin(&mut slow).await;
        service.answer();
        first.await.unwrap();
        let began = tokio::time::Instant::now();
        later.unlock(&record, &context).await.unwrap();
        assert_eq!((service.asked(), began.elapsed()), (2, Duration::ZERO));
        slow.await.unwrap();
        assert_eq!((service.asked(), waiting(6)), (2, false));
    }

    #[tokio::test]
    async fn another_spec_record_or_context_is_another_call() {
        let service = Service::slow(false);
        let (record, context) = question(3);
        let other_record = ProviderRecord::new(String::from("another record")).unwrap();
        let own = context.for_organization(Some(Uuid::nil().into()));
        let mut all = JoinSet::new();
        for (spec, record, context) in [
            ("service:1", record.clone(), context),
            ("service:2", record.clone(), context),
            ("service:1", other_record, context),
            ("service:1", record, own),
        ] {
            let provider = OneCall::new(spec, Arc::clone(&service));
            all.spawn(async move { provider.unlock(&record, &context).await });
        }
        settle().await;
        assert_eq!(service.asked(), 4);
        service.answer();
        assert_eq!(all.join_all().await.iter().filter(|key| key.is_ok()).count(), 4);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_that_many_threads_give_up_at_once_leave_nothing() {
        for _ in 0..200 {
            let mut given_up = unlock_many(&Service::slow(false), 7);
            while !waiting(7) {
                tokio::task::yield_now().await;
            }
            given_up.shutdown().await;
            assert!(!waiting(7));
        }
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_is_made_by_the_next_and_leaves_nothing() {
        let service = Service::slow(false);
        let first = tokio::spawn({
            let provider = OneCall::new("service:1", Arc::clone(&service));
            async move {
                let (record, context) = question(4);
                provider.unlock(&record, &context).await
            }
        });
        settle().await;
        let many = unlock_many(&service, 4);
        settle().await;
        assert_eq!(service.asked(), 1);
        first.abort();
        settle().await;
        assert_eq!(service.asked(), 2);
        service.answer();
        assert!(many.join_all().await.iter().all(Result::is_ok));
        assert_eq!((service.asked(), waiting(4)), (2, false));

        let mut given_up = unlock_many(&Service::slow(false), 4);
        settle().await;
        assert!(waiting(4));
        given_up.shutdown().await;
        assert!(!waiting(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_stands_still_keeps_nobody_for_ever() {
        let (still, service) = (Service::slow(false), Service::slow(false));
        let (record, context) = question(5);
        let first = OneCall::new("service:1", Arc::clone(&still));
        let mut first = first.unlock(&record, &context);
        begin(&mut first).await;
        let many = unlock_many(&service, 5);
        tokio::time::sleep(WAIT - Duration::from_millis(1)).await;
        assert_eq!(service.asked(), 0);
        tokio::time::sleep(Duration::from_millis(2)).await;
        service.answer();
        // Together again.
        assert!(many.join_all().await.iter().all(Result::is_ok));
        assert_eq!(service.asked(), 1);
        let began = tokio::time::Instant::now();
        unlock_many(&service, 5).join_all().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(WAIT < crate::limit::CALL);
    }
}
