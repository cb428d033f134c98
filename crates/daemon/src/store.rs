//! The one writer of the world: a thread that runs transactions, one after the other, and makes them last.
//!
//! A transaction is a closure over [`Tx`]. When it succeeds, its writes go to SQLite in one durable commit,
//! then the new world is published, then the closure's answer goes to the caller. Readers take
//! the published `Arc<World>` and no lock. What changed is told to the reconciler as resources to look at.
//!
//! What must hold:
//! - What was answered is on disk: WAL with `synchronous=FULL` (SQLite, *PRAGMA synchronous*).
//! - A store that cannot be read whole stops the daemon before it plans anything: guests stay up.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use cloud::model::Row;
use cloud::tx::Writes;
use cloud::{Settings, Timestamp, Tx, World};
use rusqlite::{Connection, params};
use spec::steps::Resource;
use tokio::sync::{mpsc as async_mpsc, oneshot, watch};

/// The form of the rows on disk. Rows gain fields with defaults without changing it.
const FORM: i64 = 1;

/// Why the store could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its file could not be made for its owner alone.
    #[error("Could not close the store {} to others", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite said no.
    #[error("Could not {step} the store {}", path.display())]
    Database {
        /// Which step.
        step: &'static str,
        /// Which file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A newer build wrote it.
    #[error("The store {} has form {found}, this build reads form {FORM}; use the build that wrote it", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its form.
        found: i64,
    },
    /// A row is not what it should be.
    #[error("The row {key} of the store {} cannot be read; nothing was changed, restore the file from a backup", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Which row.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Its thread is gone.
    #[error("The store is closed")]
    Closed,
}

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The closure refused.
    #[error("{0}")]
    Refused(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    world: watch::Receiver<Arc<World>>,
}

type Job = Box<dyn FnOnce(&mut Keeper) + Send>;

/// What the store's thread owns.
struct Keeper {
    path: PathBuf,
    database: Connection,
    world: Arc<World>,
    publish: watch::Sender<Arc<World>>,
    wake: async_mpsc::UnboundedSender<BTreeSet<Resource>>,
}

impl Store {
    /// Opens the store in `path`, making it where it is missing, and starts its thread. On the returned
    /// channel arrives what to look at after each commit.
    pub fn open(
        path: &Path,
        settings: Settings,
    ) -> Result<(Self, async_mpsc::UnboundedReceiver<BTreeSet<Resource>>), StoreError> {
        let failed = |step| move |source| StoreError::Database { step, path: path.to_owned(), source };
        close_to_others(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let database = Connection::open(path).map_err(failed("open"))?;
        prepare(&database, path)?;
        let world = Arc::new(load(&database, path, settings)?);
        let (publish, published) = watch::channel(Arc::clone(&world));
        let (wake, woken) = async_mpsc::unbounded_channel();
        let (jobs, queue) = mpsc::channel::<Job>();
        let mut keeper = Keeper { path: path.to_owned(), database, world, publish, wake };
        thread::spawn(move || queue.into_iter().for_each(|job| job(&mut keeper)));
        Ok((Self { jobs, world: published }, woken))
    }

    /// The world as it was last committed.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world.borrow())
    }

    /// A receiver of each new world.
    pub fn worlds(&self) -> watch::Receiver<Arc<World>> {
        self.world.clone()
    }

    /// Runs a transaction and, unless it refuses, makes it last. Answers with what the closure answered and the
    /// world with its changes.
    pub async fn transact<T, E>(
        &self,
        transaction: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Arc<World>), TransactError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |keeper| {
            // Whoever asked may have gone; what was committed stays committed.
            let _ = answer.send(keeper.transact(transaction));
        });
        self.jobs.send(job).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs a transaction and drops it: what it would answer, and nothing is changed (EC2's `DryRun`).
    pub fn rehearse<T, E>(&self, transaction: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let world = self.world();
        transaction(&mut Tx::new(&world, now(), &mut random))
    }
}

impl Keeper {
    fn transact<T, E>(
        &mut self,
        transaction: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<(T, Arc<World>), TransactError<E>> {
        let mut random = random;
        let mut tx = Tx::new(&self.world, now(), &mut random);
        let answer = transaction(&mut tx).map_err(TransactError::Refused)?;
        let (writes, world) = tx.finish();
        if !writes.is_empty() {
            self.commit(&writes)?;
            self.publish(&writes, world);
        }
        Ok((answer, Arc::clone(&self.world)))
    }

    fn commit(&mut self, writes: &Writes) -> Result<(), StoreError> {
        let failed = |source| StoreError::Database { step: "write to", path: self.path.clone(), source };
        let commit = self.database.transaction().map_err(failed)?;
        for (key, row) in writes {
            match row {
                Some(row) => {
                    let text = serde_json::to_string(row).map_err(|source| {
                        let (path, key) = (self.path.clone(), key.text());
                        StoreError::Unreadable { path, key, source }
                    })?;
                    commit
                        .prepare_cached("INSERT OR REPLACE INTO rows (key, row) VALUES (?1, ?2)")
                        .and_then(|mut insert| insert.execute(params![key.text(), text]))
                }
                None => commit
                    .prepare_cached("DELETE FROM rows WHERE key = ?1")
                    .and_then(|mut delete| delete.execute(params![key.text()])),
            }
            .map_err(failed)?;
        }
        commit.commit().map_err(failed)
    }

    /// Shows everybody the new world, and tells the reconciler where to look: at what the changed
    /// rows decided before, and at what they decide now.
    fn publish(&mut self, writes: &Writes, world: World) {
        let mut touched = self.world.resources_of(writes.keys().copied());
        self.world = Arc::new(world);
        touched.extend(self.world.resources_of(writes.keys().copied()));
        self.publish.send_replace(Arc::clone(&self.world));
        // The reconciler may have ended before the store.
        let _ = self.wake.send(touched);
    }
}

/// User-data and public keys are nobody else's business. SQLite gives the files that it makes beside this one its mode; an
/// earlier build may have made one for all.
fn close_to_others(path: &Path) -> io::Result<()> {
    const MODE: u32 = 0o600;
    File::options().append(true).create(true).mode(MODE).open(path)?;
    for name in ["", "-wal", "-shm"] {
        let mut path = path.as_os_str().to_owned();
        path.push(name);
        match std::fs::set_permissions(&path, Permissions::from_mode(MODE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

fn prepare(database: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Database { step: "prepare", path: path.to_owned(), source };
    database.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    database.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let found: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    if found > FORM {
        return Err(StoreError::Newer { path: path.to_owned(), found });
    }
    let table = "CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, row TEXT NOT NULL) WITHOUT ROWID";
    database.execute(table, []).map_err(failed)?;
    database.pragma_update(None, "user_version", FORM).map_err(failed)
}

fn load(database: &Connection, path: &Path, settings: Settings) -> Result<World, StoreError> {
    let failed = |source| StoreError::Database { step: "read", path: path.to_owned(), source };
    let mut world = World::empty(Arc::new(settings));
    let mut query = database.prepare("SELECT key, row FROM rows").map_err(failed)?;
    let rows = query
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .map_err(failed)?;
    for row in rows {
        let (key, text) = row.map_err(failed)?;
        let row: Row = serde_json::from_str(&text).map_err(|source| StoreError::Unreadable {
            path: path.to_owned(),
            key,
            source,
        })?;
        world.put(row);
    }
    Ok(world)
}

/// The moment it is.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// 64 random bits from the kernel.
pub fn random() -> u64 {
    // The kernel's generator cannot fail once the machine has booted (getrandom(2)).
    getrandom::u64().expect("the kernel gives random numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloud::first_start::first_start;
    use cloud::model::Key;

    async fn make(path: &Path) -> Store {
        let (store, _) = Store::open(path, Settings::default()).unwrap();
        let first = |tx: &mut Tx<'_>| {
            first_start(tx);
            Ok::<_, ()>(())
        };
        store.transact(first).await.unwrap();
        store
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let before = make(&path).await.world();
        let (store, _) = Store::open(&path, Settings::default()).unwrap();
        let (mut a, mut b): (Vec<Row>, Vec<Row>) = (before.rows().collect(), store.world().rows().collect());
        a.sort_by_key(Row::key);
        b.sort_by_key(Row::key);
        assert_eq!(a, b);
        assert!(a.len() > 6);
    }

    #[tokio::test]
    async fn its_files_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let _open = make(&path).await;
        let entries =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        let modes: Vec<u32> = entries.map(|metadata| metadata.permissions().mode() & 0o777).collect();
        assert_eq!(modes, [0o600; 3], "the store, its log and the log's index");
    }

    #[tokio::test]
    async fn a_refused_transaction_and_a_rehearsal_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = make(&folder.path().join("store.sqlite")).await;
        let vpc = store.world().default_vpc().unwrap().id;
        let remove = move |tx: &mut Tx<'_>| {
            tx.remove(Key::Vpc(vpc));
            if tx.world().vpcs.is_empty() { Err("no") } else { Ok(()) }
        };
        assert!(matches!(store.transact(remove).await, Err(TransactError::Refused("no"))));
        let rehearsed = store.rehearse(|tx| {
            tx.remove(Key::Vpc(vpc));
            Ok::<_, ()>(tx.world().vpcs.len())
        });
        assert_eq!(rehearsed, Ok(0));
        assert_eq!(store.world().vpcs.len(), 1);
    }

    #[tokio::test]
    async fn an_unreadable_row_or_a_newer_form_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        drop(make(&path).await);
        let database = Connection::open(&path).unwrap();
        database.execute("INSERT INTO rows VALUES ('x/y', '{}')", []).unwrap();
        assert!(
            matches!(Store::open(&path, Settings::default()), Err(StoreError::Unreadable { key, .. }) if key == "x/y")
        );
        database.execute("DELETE FROM rows WHERE key = 'x/y'", []).unwrap();
        database.pragma_update(None, "user_version", FORM + 1).unwrap();
        assert!(matches!(Store::open(&path, Settings::default()), Err(StoreError::Newer { .. })));
    }
}
