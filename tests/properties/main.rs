//! Any sequence of calls, rotations, crashes and changes of keys leaves a vault that agrees with a map.
//!
//! `PROPTEST_CASES=500 cargo test --features test-util --test properties` tries more of them.
#![allow(unreachable_pub, reason = "a harness is written as the library that it is")]

#[path = "../common/mod.rs"]
mod common;

mod operation;
mod world;

use common::{TestDatabase, on_both_stores};
use operation::{Operation, operation};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::Handle;
use world::World;

/// Cases on each store, unless `PROPTEST_CASES` says otherwise: some seconds' worth.
const CASES: u32 = 20;
const MAX_OPERATIONS: usize = 50;

async fn run(database: TestDatabase, operations: Vec<Operation>) {
    let mut world = World::begin(database).await;
    for operation in operations {
        world.apply(operation).await;
        world.assert_agrees().await;
    }
    world.end().await;
}

async fn any_sequence_of_calls_agrees_with_a_map(database: TestDatabase) {
    let dialect = database.dialect();
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: 300, ..Default::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let operations = proptest::collection::vec(operation(), 1..MAX_OPERATIONS);
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&operations, |operations| {
            Handle::current().block_on(async {
                run(TestDatabase::create(dialect).await, operations).await;
            });
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

on_both_stores!(any_sequence_of_calls_agrees_with_a_map);
