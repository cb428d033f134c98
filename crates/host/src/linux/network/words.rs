//! The words that rules are written in: short for the `nftables` crate's types.

use nftables::expr::{
    CT, CTDir, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range, SetItem,
};
use nftables::stmt::{JumpTarget, Match, Operator, Statement};

/// A test or a deed within a rule.
pub(super) type Word = Statement<'static>;
/// A value, or the place in a packet where one is read.
pub(super) type Term = Expression<'static>;

pub(super) fn field(protocol: &'static str, field: &'static str) -> Term {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Term::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

pub(super) fn meta(key: MetaKey) -> Term {
    Term::Named(NamedExpression::Meta(Meta { key }))
}

/// An address of a connection's first packet, or of the answers to it.
pub(super) fn connection(key: &'static str, dir: CTDir) -> Term {
    Term::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: Some(dir) }))
}

pub(super) fn text(text: impl ToString) -> Term {
    Term::String(text.to_string().into())
}

pub(super) fn number(number: impl Into<u32>) -> Term {
    Term::Number(number.into())
}

pub(super) fn range(first: u16, last: u16) -> Term {
    Term::Range(Box::new(Range { range: [number(first), number(last)] }))
}

pub(super) fn prefix(net: ipnet::Ipv4Net) -> Term {
    let prefix = Prefix { addr: Box::new(text(net.network())), len: net.prefix_len().into() };
    Term::Named(NamedExpression::Prefix(prefix))
}

pub(super) fn any_of(terms: impl IntoIterator<Item = Term>) -> Term {
    Term::Named(NamedExpression::Set(terms.into_iter().map(SetItem::Element).collect()))
}

pub(super) fn together(terms: impl IntoIterator<Item = Term>) -> Term {
    Term::Named(NamedExpression::Concat(terms.into_iter().collect()))
}

pub(super) fn is(left: Term, right: Term) -> Word {
    Word::Match(Match { left, right, op: Operator::EQ })
}

pub(super) fn is_not(left: Term, right: Term) -> Word {
    Word::Match(Match { left, right, op: Operator::NEQ })
}

/// Of a connection that is in one of these states.
pub(super) fn connection_is(states: &[&'static str]) -> Word {
    let left = Term::Named(NamedExpression::CT(CT { key: "state".into(), family: None, dir: None }));
    Word::Match(Match { left, right: Term::List(states.iter().map(text).collect()), op: Operator::IN })
}

pub(super) fn jump(chain: &str) -> Word {
    Word::Jump(JumpTarget { target: chain.to_owned().into() })
}

pub(super) fn accept() -> Word {
    Word::Accept(None)
}

pub(super) fn drop() -> Word {
    Word::Drop(None)
}
