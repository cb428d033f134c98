//! Word that a machine may have changed by itself.
//!
//! For each running machine a thread listens on its control socket and passes on, for every line and for the end of the
//! connection, that somebody should look. It knows nothing and decides nothing; a hint too many costs one look.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use spec::control::Request;
use spec::ids::InstanceId;
use spec::steps::Resource;

use super::control::Conversation;
use super::folder::Folder;

/// How long is waited until a machine that hung up is asked again, if it still lives.
const PAUSE: Duration = Duration::from_millis(500);
/// Stack of a listening thread, in bytes.
const STACK: usize = 128 << 10;

/// The listeners.
pub(super) struct Hints {
    sender: Sender<Resource>,
    receiver: Mutex<Option<Receiver<Resource>>>,
    watched: Arc<Mutex<BTreeSet<InstanceId>>>,
}

impl Hints {
    /// No listener yet.
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver: Mutex::new(Some(receiver)), watched: Arc::default() }
    }

    /// Where the hints arrive, for the first who asks.
    pub(super) fn receiver(&self) -> Option<Receiver<Resource>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Listens to a machine that runs, until its process is gone. Does nothing where that is done already.
    pub(super) fn watch(&self, instance: InstanceId, machines: &std::path::Path) {
        if !locked(&self.watched).insert(instance) {
            return;
        }
        let folder = Folder::of(machines, instance);
        let (sender, watched) = (self.sender.clone(), Arc::clone(&self.watched));
        let listen = move || {
            listen(&folder, &mut || sender.send(Resource::Machine(instance)).is_ok());
            locked(&watched).remove(&instance);
            // Whoever looked just before the name was taken off the list started no new listener.
            let _ = sender.send(Resource::Machine(instance));
        };
        let started =
            thread::Builder::new().name(format!("watch {instance}")).stack_size(STACK).spawn(listen);
        if started.is_err() {
            // Without the thread the machine is looked at by period only, and the next look tries again.
            locked(&self.watched).remove(&instance);
        }
    }
}

fn locked(watched: &Mutex<BTreeSet<InstanceId>>) -> MutexGuard<'_, BTreeSet<InstanceId>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hints until the process is gone, or nobody wants hints any more.
fn listen(folder: &Folder, hint: &mut dyn FnMut() -> bool) {
    let path: PathBuf = folder.control();
    loop {
        if let Ok(mut conversation) = Conversation::begin(&path) {
            // Asked once, so that the machine's first word comes when it is up.
            let mut goes_on = conversation.send(&Request::Status, &[], PAUSE).is_ok();
            while goes_on {
                goes_on = conversation.answer(None).is_ok();
                if !hint() {
                    return;
                }
            }
        }
        thread::sleep(PAUSE);
        if !folder.is_locked().unwrap_or(false) {
            return;
        }
    }
}
