//! Where EC2's words and the cloud's meet: what a request means, and how the world is told.
//!
//! One file per family, named as in `ec2/shapes` and `cloud/rules`. Every handler does the same four things:
//!
//! ```text
//! read the words   ids, addresses, tags: a malformed one ends here
//! ask the rules    in one transaction; DryRun rehearses it
//! or look          at the world as it was last committed
//! show the rows    as the shapes of the answer
//! ```
//!
//! What must hold:
//! - Wire shapes do not get past this folder, and no row is shown but through a shape.
//! - A refusal is EC2's, in code and status; `errors` holds the one table. Only a store that cannot be written
//!   and a console that cannot be read are a 500, and what EC2 itself answers 500 to: no room.
//! - Nothing of the host is told: no path, no user id, no cause of an internal failure. Those go to the log.

mod addresses;
mod common;
mod dhcp_options;
mod errors;
mod ids;
mod images;
mod instance_attributes;
mod instance_status;
mod instance_types;
mod instances;
mod internet_gateways;
mod key_pairs;
mod launch;
mod network_acls;
mod network_interfaces;
mod permissions;
mod regions;
mod route_tables;
mod security_groups;
mod sts;
mod subnets;
mod tags;
mod volume_changes;
mod volumes;
mod vpcs;

use std::sync::Arc;

use cloud::{Refusal, Tx, World};
use ec2::Error;
use host::Host;
use serde::Serialize;
use tracing::error;

use self::ids::{Seen, chosen};
use crate::pages::Listing;
use crate::store::{Store, TransactError};

/// The EC2 API, as one request meets it: every action's [`ec2::Handler`].
///
/// Make one for each request; it costs a few reference counts.
#[derive(Clone)]
pub struct Api {
    store: Store,
    /// For the console's output, and nothing else: all that a request does it does to the store.
    host: Arc<dyn Host>,
    /// Where clients reach the API: `http://127.0.0.1:8773`.
    endpoint: String,
    dry_run: bool,
}

impl Api {
    /// Answers from that store and host. A `dry_run` goes through all checks and changes nothing.
    pub fn new(store: Store, host: Arc<dyn Host>, endpoint: &str, dry_run: bool) -> Self {
        Self { store, host, endpoint: endpoint.to_owned(), dry_run }
    }

    /// Answers from the world as it was last committed.
    fn look<T>(&self, answer: impl FnOnce(&World) -> Result<T, Error>) -> Result<T, Error> {
        self.unless_dry(answer(&self.store.world())?)
    }

    /// The rows with these ids, or all: those that the listing wants to see, and the token for the rest.
    fn list<T: Seen, W: Serialize>(
        &self,
        ids: &[T::Id],
        listing: &Listing,
        show: impl Fn(&World, &T) -> W,
    ) -> Result<(Vec<W>, Option<String>), Error> {
        self.look(|world| {
            let rows = chosen::<T>(world, ids)?;
            Ok(listing.of(rows, |(id, _)| id.to_string(), |(_, row)| show(world, row)))
        })
    }

    /// Runs a rule and makes what it did last. Answers with what it answered, and the world with its changes.
    async fn change<T: Send + 'static>(
        &self,
        rule: impl FnOnce(&mut Tx<'_>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(T, Arc<World>), Error> {
        if self.dry_run {
            self.store.rehearse(rule).map_err(errors::refused)?;
            return Err(Error::dry_run_operation());
        }
        self.store.transact(rule).await.map_err(undone)
    }

    /// The answer, unless the request was only to be checked.
    fn unless_dry<T>(&self, answer: T) -> Result<T, Error> {
        if self.dry_run { Err(Error::dry_run_operation()) } else { Ok(answer) }
    }
}

/// What the client is told of a transaction that did not happen.
pub(crate) fn undone(problem: TransactError<Refusal>) -> Error {
    match problem {
        TransactError::Refused(refusal) => errors::refused(refusal),
        TransactError::Store(failure) => {
            error!(error = &failure as &dyn std::error::Error, "a request could not be made to last");
            Error::internal_error()
        }
    }
}
