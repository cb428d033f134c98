//! A process that is killed in the middle of its work: the next one completes it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::linux::network::Networks;

use crate::wish::{Wish, same, whole};
use crate::world::STATE;

/// Set for the process that is to be killed, to what it is to do.
const KILLED: &str = "CUMULET_TEST_KILLED";
/// How often it is killed, each time a little later.
const KILLS: u32 = 15;

/// Not a test by itself: what [`what_was_cut_short_is_completed`] kills, inside the world of that test.
#[test]
fn the_killed_one() {
    let Ok(task) = std::env::var(KILLED) else { return };
    let (networks, wish) = (Networks::new(STATE).unwrap(), Wish::new());
    println!("now");
    match task.as_str() {
        "make" => wish.fulfil(&networks),
        _ => wish.remove(&networks),
    }
}

/// Runs [`the_killed_one`] and kills it so long after it began, if it has not ended by then. Returns how long
/// it took.
fn run_and_kill(task: &str, after: Duration) -> Duration {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["cut_short::the_killed_one", "--exact", "--nocapture"])
        .env(KILLED, task)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().ends_with("now")), "it did not begin");
    let begin = Instant::now();
    while begin.elapsed() < after && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = begin.elapsed();
    let _ = child.kill();
    child.wait().unwrap();
    took
}

#[test]
fn what_was_cut_short_is_completed() {
    let (networks, wish, fresh) = whole();
    for task in ["make", "remove"] {
        let prepare = || if task == "make" { wish.remove(&networks) } else { wish.fulfil(&networks) };
        prepare();
        let whole_task = run_and_kill(task, Duration::from_secs(60));
        for kill in 0..KILLS {
            prepare();
            run_and_kill(task, whole_task * kill / KILLS);
            wish.fulfil(&networks);
            same(&fresh, &format!("{task}, killed at {kill}/{KILLS}"));
        }
    }
}
