//! The migrations.
mod common;
use common::{TestDatabase, on_both_stores};
on_both_stores!(second_run_applies_nothing);
async fn second_run_applies_nothing(database: TestDatabase) {
    assert_eq!(credvault::migrate(database.url()).await.unwrap().len(), 4);
    assert_eq!(credvault::migrate(database.url()).await.unwrap(), []);
    let (o, i) = database.add_tenant().await;
    let rows = database.fetch_text("SELECT id, organization_id, last_used_at, 1 FROM integrations").await;
    assert_eq!(rows, [[Some(i.to_string()), Some(o.to_string()), None, Some("1".to_owned())]]);
}
