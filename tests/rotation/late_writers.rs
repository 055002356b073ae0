//! Writers that are older than a switch: what they may still write under the key of before is waited for.

use std::sync::Arc;
use std::time::Duration;

use credvault::{DataKeyId, Outcome, Rotation, RotationEvent, Vault};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::common::roles::Role;
use crate::common::service::{Service, Tenant, active_key, first_token, key, put, read, token};
use crate::common::{Dialect, RawConnection, TestDatabase};

/// Long enough for a sweep of some rows and a look at who writes.
const SHORT: Duration = Duration::from_millis(200);

/// A vault with an application and a rotation at work, neither of them as superuser.
struct Scene {
    service: Service,
    application: Vault,
    application_role: Role,
    rotator: Vault,
    rotator_role: Role,
    /// With tokens under the old key.
    tenants: Vec<Tenant>,
    /// Without one.
    newcomer: Tenant,
    old: DataKeyId,
}

impl Scene {
    async fn begin() -> Self {
        let (service, _) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
        let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
        let (application_role, rotator_role) = (Role::service(database).await, Role::rotator(database).await);
        let application = service.open_by(Vault::builder().url(application_role.url_of("billing"))).await;
        let rotator = service.open_by(Vault::builder().url(&rotator_role.url)).await;
        Self {
            tenants: service.add_tenants_with_tokens(&application, 3).await,
            newcomer: service.add_tenants(1).await[0],
            old: active_key(&rotator, None).await,
            service,
            application,
            application_role,
            rotator,
            rotator_role,
        }
    }

    /// A connection of the application's own, for its transactions.
    async fn connect(&self) -> RawConnection {
        RawConnection::connect_to(&self.application_role.url_of("billing")).await
    }

    /// Rotates beside a late writer: all rows follow, the old key is still needed; gives what was waited for.
    async fn rotate_in_vain(&self, rotation: Rotation) -> Vec<String> {
        let report = rotation.max_wait(SHORT).run().await.unwrap();
        assert_eq!((&report.outcome, report.remaining), (&Outcome::WorkRemains, 0), "{report:?}");
        assert_eq!(report.unused_keys, []);
        assert_eq!(key(&self.rotator, self.old).await.unused_since, None);
        assert_eq!(self.captured_sets().await, 1, "one set for the one switch");
        let mut named: Vec<String> = report.waiting.transactions.iter().collect();
        named.sort();
        named
    }

    /// Rotates after the late writer: its row follows, and the old key is unused.
    async fn rotate_to_the_end(&self) {
        assert_eq!(self.service.rows_under_other_keys().await, 1, "the writer was not late");
        let report = self.rotator.rotation().max_wait(SHORT).run().await.unwrap();
        assert_eq!((&report.outcome, report.re_encrypted), (&Outcome::Complete, 1), "{report:?}");
        assert_eq!((report.new_keys, report.unused_keys), (vec![], vec![self.old]));
        assert_eq!(self.captured_sets().await, 1, "a newer set was captured for the same switch");
        self.service.assert_all_current(&self.rotator).await;
    }

    async fn captured_sets(&self) -> u64 {
        self.service.count("SELECT count(*) FROM vault_rotation_runs WHERE captured IS NOT NULL").await
    }

    /// Reads for longer than any rotation takes: a snapshot that is taken now.
    async fn read_for_long(&self) -> RawConnection {
        let mut reader = self.connect().await;
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM integration_credentials").await;
        reader
    }
}

/// The application's put of a tenant's token, which waits for `holder`; and its process id.
async fn put_behind(scene: &Scene, holder: &mut RawConnection, tenant: Tenant) -> (JoinHandle<()>, String) {
    // As a transfer of the integration would.
    holder
        .execute(&format!("BEGIN; SELECT FROM integrations WHERE id = '{}' FOR UPDATE", tenant.integration))
        .await;
    let application = scene.application.clone();
    let late = tokio::spawn(async move { put(&application, tenant, "late").await });
    let waiting = "SELECT pid FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'
                      AND backend_xid IS NULL AND backend_xmin IS NOT NULL";
    loop {
        if let [row] = &scene.service.database.fetch_text(waiting).await[..] {
            return (late, row[0].clone().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_waits_for_a_lock_since_before_the_switch_is_waited_for() {
    let scene = Scene::begin().await;
    let tenant = scene.tenants[0];
    let mut holder = scene.service.database.connect().await;
    let (late, pid) = put_behind(&scene, &mut holder, tenant).await;

    // The holder may still write, too.
    let mut named = [format!("pid {pid} (billing)"), format!("pid {}", holder.pid().await)];
    named.sort();
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation().force()).await, named);
    // Who begins now writes under the new key, and is waited for by nobody, however long it takes.
    let _reader = scene.read_for_long().await;
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation().force()).await, named);
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation()).await, named);

    holder.execute("ROLLBACK").await;
    late.await.unwrap();
    assert_eq!(scene.service.key_of(tenant).await, scene.old);
    scene.rotate_to_the_end().await;
    assert_eq!(read(&scene.rotator, tenant).await.unwrap(), "late");
    assert_eq!(read(&scene.rotator, scene.tenants[1]).await.unwrap(), first_token(scene.tenants[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_with_a_snapshot_of_before_the_switch_is_waited_for() {
    let scene = Scene::begin().await;
    let mut late = scene.connect().await;
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM integrations").await;
    let pid = late.pid().await;

    let named = [format!("pid {pid} (billing)")];
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation().force()).await, named);
    let organization = scene.application.organization(scene.newcomer.organization);
    organization.put_in(late.lend(), scene.newcomer.integration, &token("late")).await.unwrap();
    let _reader = scene.read_for_long().await;
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation()).await, named);

    late.execute("COMMIT").await;
    assert_eq!(scene.service.key_of(scene.newcomer).await, scene.old);
    scene.rotate_to_the_end().await;
    assert_eq!(read(&scene.rotator, scene.newcomer).await.unwrap(), "late");
}

/// A transaction of the application's that has put the newcomer's token under the old key.
async fn written_by(scene: &Scene) -> RawConnection {
    let mut late = scene.connect().await;
    late.begin().await;
    let organization = scene.application.organization(scene.newcomer.organization);
    organization.put_in(late.lend(), scene.newcomer.integration, &token("late")).await.unwrap();
    late
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_prepared_before_the_switch_is_waited_for() {
    let scene = Scene::begin().await;
    let mut late = written_by(&scene).await;
    let gid = format!("early {}", Uuid::new_v4());
    late.execute(&format!("PREPARE TRANSACTION '{gid}'")).await;

    let named = [format!("prepared transaction {gid:?}")];
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation().force()).await, named);
    let _reader = scene.read_for_long().await;
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation()).await, named);

    late.execute(&format!("COMMIT PREPARED '{gid}'")).await;
    scene.rotate_to_the_end().await;
    assert_eq!(read(&scene.rotator, scene.newcomer).await.unwrap(), "late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_before_the_switch_that_is_prepared_after_it_is_waited_for() {
    let scene = Scene::begin().await;
    let mut late = written_by(&scene).await;
    let pid = late.pid().await;
    let running = [format!("pid {pid} (billing)")];
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation().force()).await, running);

    let gid = format!("late {}", Uuid::new_v4());
    late.execute(&format!("PREPARE TRANSACTION '{gid}'")).await;
    let prepared = [format!("prepared transaction {gid:?}")];
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation()).await, prepared);
    // One that is prepared later is none of those that were captured.
    let mut newer = scene.connect().await;
    let newer_gid = format!("newer {}", Uuid::new_v4());
    newer.execute(&format!("BEGIN; SELECT txid_current(); PREPARE TRANSACTION '{newer_gid}'")).await;
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation()).await, prepared);

    late.execute(&format!("COMMIT PREPARED '{gid}'")).await;
    scene.rotate_to_the_end().await;
    assert_eq!(read(&scene.rotator, scene.newcomer).await.unwrap(), "late");
    newer.execute(&format!("ROLLBACK PREPARED '{newer_gid}'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_waits_long_enough_takes_up_what_a_late_writer_wrote() {
    let scene = Scene::begin().await;
    let mut late = written_by(&scene).await;
    let (rotation, mut events) = scene.rotator.rotation().force().events();
    let rotation = tokio::spawn(rotation.run());
    loop {
        if let RotationEvent::Waiting(waiting) = events.next().await.expect("it did not wait") {
            assert_eq!((waiting.rows, waiting.transactions.iter().count()), (0, 1), "{waiting:?}");
            break;
        }
    }
    late.execute("COMMIT").await;
    let report = rotation.await.unwrap().unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 4));
    assert_eq!(report.unused_keys, [scene.old]);
    assert_eq!(read(&scene.rotator, scene.newcomer).await.unwrap(), "late");
    scene.service.assert_all_current(&scene.rotator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_another_time_zone_takes_the_server_for_the_same() {
    let scene = Scene::begin().await;
    let mut late = written_by(&scene).await;
    let pid = late.pid().await;
    let named = [format!("pid {pid} (billing)")];
    assert_eq!(scene.rotate_in_vain(scene.rotator.rotation().force()).await, named);
    // A service's pool, as it sets its sessions up.
    let pool: PgPool = PgPoolOptions::new()
        .max_connections(4)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'SQL, DMY'").await.map(drop)
            })
        })
        .connect(&scene.rotator_role.url)
        .await
        .unwrap();
    let elsewhere = scene.service.open_by(Vault::builder().postgres(pool)).await;
    assert_eq!(scene.rotate_in_vain(elsewhere.rotation()).await, named);
    late.execute("COMMIT").await;
    scene.rotate_to_the_end().await;
}

/// Between a rotation's look at who is under way and its record of that, another process switches the new key away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_switched_away_while_a_rotation_captures_waits_for_a_set_of_its_own() {
    let scene = Scene::begin().await;
    let database = &scene.service.database;
    let holder = Arc::new(tokio::sync::Mutex::new(database.connect().await));
    let (runtime, holds) = (tokio::runtime::Handle::current(), Arc::clone(&holder));
    let rotation =
        scene.rotator.rotation().force().max_wait(Duration::from_millis(200)).on_event(move |event| {
            if let RotationEvent::Switched { .. } = event {
                let lock = "BEGIN; SELECT FROM vault_rotation_runs WHERE finished_at IS NULL FOR UPDATE";
                tokio::task::block_in_place(|| {
                    runtime.block_on(async { holds.lock().await.execute(lock).await })
                });
            }
        });
    let rotation = tokio::spawn(rotation.run());
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while scene.service.count(waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It has looked. Who begins now is waited for by nobody, and writes under the key of now.
    let leaked = active_key(&scene.rotator, None).await;
    let mut late = scene.connect().await;
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM integrations").await;
    let elsewhere = scene.service.open().await;
    elsewhere.keys().compromise(leaked).await.unwrap();
    holder.lock().await.execute("COMMIT").await;

    // It captured again for that switch, and waited for who had begun.
    let report = rotation.await.unwrap().unwrap();
    assert_eq!((&report.outcome, report.waiting.transactions.is_empty()), (&Outcome::WorkRemains, false));
    assert!(!report.unused_keys.contains(&leaked), "{report:?}");
    assert_eq!(key(&scene.rotator, leaked).await.unused_since, None);
    let application = scene.service.open().await.organization(scene.newcomer.organization);
    application.put_in(late.lend(), scene.newcomer.integration, &token("late")).await.unwrap();
    late.execute("COMMIT").await;
    assert_eq!(scene.service.key_of(scene.newcomer).await, leaked);
    let report = scene.rotator.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 1));
    assert!(report.unused_keys.contains(&leaked), "{:?}", report.unused_keys);
    scene.service.assert_all_current(&scene.rotator).await;
}
