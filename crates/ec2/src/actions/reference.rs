//! The reference page of all actions, made from the table and the shapes.

use std::fmt::Write as _;

use super::{About, Action, Visitor, visit};
use crate::query::{Accepts, Unobeyed, wire_name};
use crate::specimen::{Kind, Parameter, parameters};

/// Markdown that lists every action by family, with the parameters it obeys and those it does not.
#[must_use]
pub fn reference() -> String {
    let mut page = Page::default();
    page.line("# The API\n\nEvery action that is answered, with every parameter that EC2 knows for it.\n");
    visit(&mut page);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Visitor for Page {
    fn visit<A: Action>(&mut self) {
        let About { name, family, summary, unobeyed, .. } = A::ABOUT;
        if self.family != family {
            self.family = family;
            self.line(&format!("## {}\n", title(family)));
        }
        self.line(&format!("### {name}\n\n{summary}.\n"));
        let mut obeyed = parameters::<A>();
        let (partly, unobeyed): (Vec<&Unobeyed>, Vec<&Unobeyed>) =
            unobeyed.iter().partition(|entry| matches!(entry.accepts, Accepts::Partly(_)));
        obeyed.retain(|parameter| !unobeyed.iter().any(|entry| entry.covers(&parameter.name)));
        if obeyed.is_empty() && unobeyed.is_empty() {
            self.line("No parameters.\n");
            return;
        }
        self.line("| parameter | |\n|---|---|");
        for parameter in &obeyed {
            let mut what = describe(parameter);
            for entry in partly.iter().filter(|entry| entry.covers(&parameter.name)) {
                what += &format!("; {}", restrict(entry));
            }
            self.line(&format!("| `{}` | {what} |", parameter.name));
        }
        for entry in unobeyed {
            self.line(&format!("| `{}` | {} |", entry.name, restrict(entry)));
        }
        self.line("");
    }
}

impl Page {
    fn line(&mut self, text: &str) {
        // Writing to a String cannot fail.
        _ = writeln!(self.text, "{text}");
    }
}

/// `network_acls` becomes `Network ACLs`.
fn title(family: &str) -> String {
    let words = family.split('_').map(|word| match word {
        "acls" => "ACLs",
        "dhcp" => "DHCP",
        "sts" => "STS",
        "vpcs" => "VPCs",
        other => other,
    });
    wire_name(&words.collect::<Vec<_>>().join(" "))
}

fn describe(parameter: &Parameter) -> String {
    let kind = match parameter.kind {
        Kind::Text => "text".to_owned(),
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Integer => "whole number".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Bytes => "base64".to_owned(),
        Kind::Time => "time".to_owned(),
        Kind::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
    };
    if parameter.required { format!("{kind}; required") } else { kind }
}

fn restrict(entry: &Unobeyed) -> String {
    match entry.accepts {
        Accepts::Nothing => "not supported yet".to_owned(),
        Accepts::Only(default) => format!("not supported yet, only its default `{default}`"),
        Accepts::Anything(reason) => format!("makes no difference: {reason}"),
        Accepts::Partly(what) => what.to_owned(),
    }
}
