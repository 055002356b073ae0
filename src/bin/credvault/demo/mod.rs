//! d
use crate::arguments::{Demo, Global};
use crate::output::Report;
pub(crate) async fn run(_: &Global, _: &Demo) -> anyhow::Result<Report> {
    anyhow::bail!("x")
}
