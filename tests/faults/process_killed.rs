//! A process that is killed while it writes and rotates: what it was told is written is there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use credvault::Vault;

use crate::common::long::short_or_long;
use crate::common::service::{Service, Tenant, put, random_below, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

/// Where a child finds its database, its master key and its tenants.
const CHILD: &str = "CREDVAULT_TEST_CHILD";
const TENANTS: usize = 6;

/// Writes ever higher numbers by turns, says on a line each that was acknowledged, and rotates meanwhile, until it is
/// killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of what_was_acknowledged_stands_after_a_kill, which starts it"]
async fn a_child_writes_and_rotates() {
    let child = std::env::var(CHILD).expect("it is started by another test");
    let (place, tenants) = child.split_once('\n').unwrap();
    let (url, key) = place.split_once(' ').unwrap();
    let vault = Vault::open(url, key).await.unwrap();
    let rotating = vault.clone();
    tokio::spawn(async move {
        loop {
            rotating.rotation().force().batch_size(2).unwrap().run().await.unwrap();
            println!("\nrotated");
        }
    });
    let mut number = 0;
    loop {
        number += 1;
        for (at, tenant) in tenants.lines().enumerate() {
            let (organization, rest) = tenant.split_once(' ').unwrap();
            let (integration, first) = rest.split_once(' ').unwrap();
            let tenant = Tenant {
                organization: organization.parse().unwrap(),
                integration: integration.parse().unwrap(),
            };
            let next = first.parse::<u64>().unwrap() + number;
            put(&vault, tenant, &next.to_string()).await;
            println!("\nacknowledged {at} {next}");
        }
    }
}

async fn what_was_acknowledged_stands_after_a_kill(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants(TENANTS).await;
    let mut numbers = vec![0; TENANTS];
    for tenant in &tenants {
        put(&vault, *tenant, "0").await;
    }
    let (mut writes, mut rotations) = (0_u64, 0);
    let kills = short_or_long(10_u64, 50);
    for kill in 0..kills {
        let lines = tenants
            .iter()
            .zip(&numbers)
            .map(|(tenant, number)| format!("{} {} {number}\n", tenant.organization, tenant.integration));
        let told =
            format!("{} {}\n{}", service.database.url(), service.key("first"), lines.collect::<String>());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_killed::a_child_writes_and_rotates", "--ignored", "--nocapture"])
            .env(CHILD, told)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Once it has begun, at any moment; every second one in a rotation after its first.
        let awaited = if kill % 2 == 0 { "acknowledged" } else { "rotated" };
        let mut first = Vec::new();
        while !first.last().is_some_and(|line: &String| line.starts_with(awaited)) {
            first.push(lines.next().expect("it ended by itself"));
        }
        tokio::time::sleep(Duration::from_micros(random_below(150_000))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for line in first.into_iter().chain(lines) {
            // Of one that was cut off the number is too small, or none.
            let Some((at, number)) = line.strip_prefix("acknowledged ").and_then(|said| said.split_once(' '))
            else {
                continue;
            };
            let last = &mut numbers[at.parse::<usize>().unwrap()];
            *last = number.parse().unwrap_or(*last).max(*last);
            writes += 1;
        }
        if service.database.dialect() == Dialect::Sqlite {
            let check = service.database.fetch_one_text("PRAGMA integrity_check").await;
            assert_eq!(check.as_deref(), Some("ok"));
        }
        for (tenant, number) in tenants.iter().zip(&mut numbers) {
            let found: u64 = read(&vault, *tenant).await.unwrap().parse().unwrap();
            assert!(found >= *number, "{tenant:?} has {found} and not {number}");
            *number = found;
        }
        service.assert_keys_hold(&vault).await;
        service.expire_lease().await;
        rotations =
            service.count("SELECT count(*) FROM vault_rotation_runs WHERE outcome = 'complete'").await;
    }
    println!("{writes} writes, {rotations} rotations that came to their end");
    assert!(writes >= kills && rotations >= kills / 2, "{writes} writes, {rotations} rotations");
    vault.rotation().force().run().await.unwrap();
    service.assert_all_current(&vault).await;
}

on_both_stores!(what_was_acknowledged_stands_after_a_kill);
