//! cumulet-vmm: one process, one machine, on KVM.
//!
//! ```text
//! read the spec       launch.rs, by_hand.rs, descriptors.rs    everything needed, as open files
//! lock the doors      sandbox/                                 nothing more can be got, only be handed over
//! build the machine   machine.rs, boot/, arch/, memory.rs      memory, kernel, tables, vCPUs
//!                     pci.rs, attachments.rs                   devices, and where each sits
//! run                 supervisor.rs, lifecycle.rs, vcpu.rs     one thread decides, the others work
//!                     hotplug.rs, leaving.rs                   devices come and go
//!                     rest.rs, saved.rs                        stand still, be written down, go on later
//! say why it ended    exit.rs
//! ```

mod arch;
mod attachments;
mod backend;
mod boot;
mod by_hand;
mod console;
mod control;
mod descriptors;
mod escape;
mod events;
mod exit;
mod hotplug;
mod interrupts;
mod launch;
mod leaving;
mod lifecycle;
mod machine;
mod memory;
mod pci;
mod platform;
mod poll;
mod rest;
mod sandbox;
mod saved;
mod supervisor;
mod terminal;
mod timeline;
mod vcpu;

use std::process::ExitCode;

use spec::control::EndReason;
use spec::machine::{Run, descriptors::VARIABLE};

use crate::exit::{chain, end};
use crate::launch::{Held, Outside};
use crate::supervisor::Supervisor;
use crate::terminal::Terminal;

/// A usage error's exit status (sysexits.h).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    timeline::begin();
    match std::env::var(VARIABLE) {
        Ok(names) => {
            let learned = |machine: &spec::machine::Machine, outside: &mut Outside| {
                exit::record_in(machine.run, outside.ending.take());
                sandbox::leave_the_host()
            };
            match launch::inherit(&names, learned) {
                Ok((held, outside)) => run(held, outside),
                Err(error) => end(error.reason(), &chain(&error)),
            }
        }
        Err(_) => by_hand(),
    }
}

fn by_hand() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", by_hand::USAGE);
        return ExitCode::SUCCESS;
    }
    exit::record_in(Run { incarnation: 1, attempt: 1 }, None);
    let arguments = match by_hand::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            exit::say(&error.to_string());
            return ExitCode::from(EX_USAGE);
        }
    };
    if let Some(escape) = arguments.escape {
        return escape.run().map_or_else(|error| end(EndReason::Failed, &chain(&error)), ExitCode::from);
    }
    match by_hand::open(arguments).map(|all| sandbox::leave_the_host().map(|()| all)) {
        Ok(Ok((held, outside))) => {
            let _terminal = Terminal::lend();
            run(held, outside)
        }
        Ok(Err(error)) => end(EndReason::Failed, &chain(&error)),
        Err(error) => end(EndReason::Unbuildable, &chain(&error)),
    }
}

/// Runs a machine to its end.
fn run(mut held: Held, outside: Outside) -> ExitCode {
    timeline::mark("everything opened");
    if let Err(error) = sandbox::lock_the_doors(true) {
        return end(EndReason::Failed, &chain(&error));
    }
    timeline::mark("doors locked");
    match Supervisor::new(&held, outside) {
        Ok(supervisor) => {
            let (reason, message) = supervisor.run(&mut held);
            end(reason, &message)
        }
        Err(error) => end(EndReason::Failed, &format!("Cannot watch over a machine: {error}")),
    }
}
