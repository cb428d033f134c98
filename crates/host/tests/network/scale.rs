//! What an interface costs when there are many already. Printed, not asserted: `cargo test -p host --test
//! network scale -- --nocapture`.

use std::time::{Duration, Instant};

use spec::network::Interface;

use crate::world::{begin, group, interface, network, observe, open_group};

/// How many interfaces there are when the next one is measured. CI has the time for a hundred;
/// `CUMULET_TEST_INTERFACES=500` shows more.
fn steps() -> Vec<usize> {
    let most =
        std::env::var("CUMULET_TEST_INTERFACES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    [0, 100, 500, 1000].into_iter().filter(|step| *step <= most).collect()
}

#[test]
fn one_more_interface_among_many() {
    let networks = begin();
    let mut network = network(1);
    // One large subnet: a bridge holds 1023 ports.
    network.subnets.truncate(1);
    network.subnets[0].cidr = "10.0.0.0/16".parse().unwrap();
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&open_group(1, 1)).unwrap();
    let numbered = |number: usize| -> Interface {
        let [high, low] = u16::try_from(number + 10).unwrap().to_be_bytes();
        let mut interface = interface(&network, 0, low, &[1, 2]);
        interface.id = spec::ids::InterfaceId::from_random(number as u64);
        interface.addresses = vec![[10, 0, high, low].into()];
        interface.mac.0[4] = high;
        interface
    };
    let mut made = 0;
    for step in steps() {
        for number in made..step {
            networks.ensure_interface(&numbered(number)).unwrap();
        }
        let group = took(|| networks.ensure_group(&group(1, 2)).unwrap());
        let first = took(|| networks.ensure_interface(&numbered(step)).unwrap());
        let again = took(|| networks.ensure_interface(&numbered(step)).unwrap());
        let look = took(|| drop(observe(&networks)));
        println!(
            "among {step}: group {group:.1?}, interface {first:.1?}, again {again:.1?}, look {look:.1?}"
        );
        made = step + 1;
    }
    let found = observe(&networks);
    assert_eq!(found.interfaces.len(), made);
    assert!(found.interfaces.values().all(Option::is_some));
}

fn took(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}
