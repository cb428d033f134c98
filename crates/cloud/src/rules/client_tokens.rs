//! Client tokens: a call that comes twice with the same one makes what it makes once.
//!
//! Source: AWS, *Ensuring idempotency in Amazon EC2 API requests*.

use std::hash::Hash;
use std::sync::Arc;

use spec::Fingerprint;

use crate::model::{ClientToken, Row};
use crate::refusal::{Reason, Refusal};
use crate::tx::Tx;
use crate::world::Table;

/// The token of a call, marked with all that the call says.
pub(super) fn mark(token: Option<&String>, call: &impl Hash) -> Option<ClientToken> {
    token.map(|token| ClientToken { token: token.clone(), parameters: Fingerprint::of(call).0 })
}

/// What an earlier call with this token made; the refusal where that call said something else.
pub(super) fn earlier<T: Table + Into<Row>>(
    tx: &Tx<'_>,
    token: Option<&ClientToken>,
) -> Result<Option<Arc<T>>, Refusal> {
    let Some(token) = token else { return Ok(None) };
    let Some(found) = tx.world().made_with::<T>(&token.token) else { return Ok(None) };
    let row: Row = (**found).clone().into();
    if row.client_token() == Some(token) {
        return Ok(Some(Arc::clone(found)));
    }
    let text = format!("The client token '{}' was used before with other parameters", token.token);
    Err(Refusal::new(Reason::IdempotentParameterMismatch, text))
}
