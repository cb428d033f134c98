//! Parameters that EC2 knows and this implementation does not obey yet, or not whatever they say.
//!
//! Each action names them in a table, so that accepting and ignoring one cannot happen by oversight: a parameter
//! that is neither a field of the request nor in the table is unknown, and one in the table passes only when what
//! it says is what happens anyway.

use super::QueryError;
use super::parameters::{Node, Part};
use crate::format::read::join;

/// One parameter, or a family of them, that is recognised and not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unobeyed {
    /// Its name, with `N` for any index; everything below it is meant too: `LaunchTemplate` covers
    /// `LaunchTemplate.Version`.
    pub name: &'static str,
    /// What may be said of it.
    pub accepts: Accepts,
}

impl Unobeyed {
    /// Whether it means the parameter called `name`, itself or as one of a family. Indices are `N` in both.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        name.strip_prefix(self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// What may be said of an unobeyed parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// EC2's default, in either case of letters.
    Only(&'static str),
    /// Nothing.
    Nothing,
    /// Anything, because all answers come to the same here, for the reason given.
    Anything(&'static str),
    /// What the handler finds that it can obey; it is a field of the request, too. What that is stands here for people.
    Partly(&'static str),
}

/// A parameter that may only state EC2's default.
#[must_use]
pub const fn only(name: &'static str, default: &'static str) -> Unobeyed {
    Unobeyed { name, accepts: Accepts::Only(default) }
}

/// A parameter that may not be given at all.
#[must_use]
pub const fn refused(name: &'static str) -> Unobeyed {
    Unobeyed { name, accepts: Accepts::Nothing }
}

/// A parameter of which anything may be said, because it makes no difference here: `reason` says why.
#[must_use]
pub const fn moot(name: &'static str, reason: &'static str) -> Unobeyed {
    Unobeyed { name, accepts: Accepts::Anything(reason) }
}

/// A parameter that is obeyed for some values only, which the handler tells apart: `what` says which.
#[must_use]
pub const fn partly(name: &'static str, what: &'static str) -> Unobeyed {
    Unobeyed { name, accepts: Accepts::Partly(what) }
}

/// Takes every unobeyed parameter out of the tree, or says which one asks for something we do not do.
pub(super) fn settle(root: &mut Node, unobeyed: &[Unobeyed]) -> Result<(), QueryError> {
    for entry in unobeyed.iter().filter(|entry| !matches!(entry.accepts, Accepts::Partly(_))) {
        let parts: Vec<&str> = entry.name.split('.').collect();
        settle_at(root, &parts, "", entry.accepts)?;
    }
    Ok(())
}

fn settle_at(node: &mut Node, parts: &[&str], path: &str, accepts: Accepts) -> Result<(), QueryError> {
    let Some((first, rest)) = parts.split_first() else {
        judge(node, path, accepts)?;
        *node = Node::default();
        return Ok(());
    };
    let matching: Vec<Part> = match *first {
        "N" => node.children.keys().filter(|part| matches!(part, Part::Index(_))).cloned().collect(),
        name => vec![Part::Name(name.to_owned())],
    };
    for part in matching {
        let Some(child) = node.children.get_mut(&part) else { continue };
        settle_at(child, rest, &join(path, &part.to_string()), accepts)?;
        // A structure emptied here was never said; a list's member was, and stays to be judged as such.
        if child.is_empty() && (rest.is_empty() || matches!(part, Part::Name(_))) {
            node.children.remove(&part);
        }
    }
    Ok(())
}

/// Whether all that is said at and below `node` may be said.
fn judge(node: &Node, path: &str, accepts: Accepts) -> Result<(), QueryError> {
    let (default, said_default) = match accepts {
        Accepts::Anything(_) | Accepts::Partly(_) => return Ok(()),
        Accepts::Nothing => (None, false),
        Accepts::Only(default) => {
            let same = node.value.as_deref().is_some_and(|value| value.eq_ignore_ascii_case(default));
            (Some(default), same && node.children.is_empty())
        }
    };
    match node.first() {
        Some((rest, _)) if !said_default => {
            Err(QueryError::Unsupported { parameter: join(path, &rest), default })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Parameters;

    const TABLE: &[Unobeyed] = &[
        only("Ebs.N.Encrypted", "false"),
        refused("LaunchTemplate"),
        only("Monitoring.Enabled", "false"),
        moot("Latest", "it always is"),
        refused("Licence.N"),
        partly("Speed", "fast only"),
    ];

    fn settled(text: &str) -> Result<Option<String>, QueryError> {
        let mut parameters = Parameters::parse(&[text.as_bytes()]).unwrap();
        settle(&mut parameters.root, TABLE)?;
        Ok(parameters.root.first().map(|(name, _)| name))
    }

    #[test]
    fn the_default_passes_and_leaves_nothing_behind() {
        assert_eq!(settled("Monitoring.Enabled=FALSE&Latest=whatever"), Ok(None));
        assert_eq!(
            settled("Ebs.1.Encrypted=false&Ebs.2.Encrypted=false&Ebs.2.Size=1"),
            Ok(Some("Ebs.2.Size".into()))
        );
    }

    #[test]
    fn anything_else_is_unsupported_and_named_in_full() {
        for (text, name, default) in [
            ("Ebs.7.Encrypted=true", "Ebs.7.Encrypted", Some("false")),
            ("Monitoring.Enabled.1=false", "Monitoring.Enabled.1", Some("false")),
            ("Monitoring.Enabled=false&Monitoring.Enabled.1=x", "Monitoring.Enabled", Some("false")),
            ("LaunchTemplate.Version=3", "LaunchTemplate.Version", None),
            ("LaunchTemplate=", "LaunchTemplate", None),
            ("Licence.3.Arn=x", "Licence.3.Arn", None),
        ] {
            let expected = QueryError::Unsupported { parameter: name.into(), default };
            assert_eq!(settled(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_stays() {
        for text in ["Monitoring.Level=1", "Ebs.Encrypted=true", "LaunchTemplates=1", "Speed=slow"] {
            let name = text.split('=').next().map(str::to_owned);
            assert_eq!(settled(text), Ok(name), "{text}");
        }
    }
}
