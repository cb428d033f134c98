//! From what the user typed, an id or a name, to the one thing that is meant.

use ec2::actions::Action;
use ec2::shapes::common::{Filter, Tag};
use ec2::shapes::images::{DescribeImagesRequest, Image};
use ec2::shapes::instance_types::{DescribeInstanceTypesRequest, InstanceTypeInfo};
use ec2::shapes::instances::{DescribeInstancesRequest, Instance, InstanceStateName};
use ec2::shapes::volumes::{DescribeVolumesRequest, Volume};

use crate::client::{CallError, Client};
use crate::failure::Remedy;

/// Why a name does not lead to one thing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// The cloud could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing has that name.
    #[error("There is no {noun} named {name}")]
    Nothing { noun: &'static str, name: String },
    /// Several things have that name.
    #[error("{} {noun}s are named {name}: {}", ids.len(), ids.join(", "))]
    Several { noun: &'static str, name: String, ids: Vec<String> },
}

impl Remedy for FindError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Call(error) => error.hint(),
            Self::Nothing { noun, .. } => Some(format!("see what there is: cumulet {noun}s")),
            Self::Several { .. } => Some("give the id instead of the name".to_owned()),
        }
    }
}

/// The tag that holds a resource's name.
pub(crate) const NAME: &str = "Name";

/// A resource's name, by EC2's convention.
pub(crate) fn name_of(tags: &[Tag]) -> Option<&str> {
    tags.iter().find(|tag| tag.key == NAME).map(|tag| tag.value.as_str())
}

/// Whether `text` has the form of an id: the prefix, a hyphen, and 8 or 17 hexadecimal digits as EC2 makes them.
pub(crate) fn is_id(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    digits.is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The only one of `found`.
fn one<T>(found: Vec<T>, noun: &'static str, name: &str, id: impl Fn(&T) -> &str) -> Result<T, FindError> {
    let ids = found.iter().map(|thing| id(thing).to_owned()).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(thing), None) => Ok(thing),
        (None, _) => Err(FindError::Nothing { noun, name: name.to_owned() }),
        _ => Err(FindError::Several { noun, name: name.to_owned(), ids }),
    }
}

/// A request whose answer may come in pages.
trait Pages: Action {
    type Item;
    /// Asks for the page that `token` names.
    fn continue_at(&mut self, token: String);
    /// The things of one page, and the name of the next.
    fn take(page: Self::Response) -> (Vec<Self::Item>, Option<String>);
}

macro_rules! pages {
    ($($request:ty: $item:ty = $take:expr;)*) => {$(
        impl Pages for $request {
            type Item = $item;

            fn continue_at(&mut self, token: String) {
                self.next_token = Some(token);
            }

            fn take(page: Self::Response) -> (Vec<$item>, Option<String>) {
                let next = page.next_token.clone().filter(|token| !token.is_empty());
                let take: fn(Self::Response) -> Vec<$item> = $take;
                (take(page), next)
            }
        }
    )*};
}

pages! {
    DescribeInstancesRequest: Instance =
        |page| page.reservation_set.into_iter().flat_map(|reservation| reservation.instances_set).collect();
    DescribeImagesRequest: Image = |page| page.images_set;
    DescribeVolumesRequest: Volume = |page| page.volume_set;
    DescribeInstanceTypesRequest: InstanceTypeInfo = |page| page.instance_type_set;
}

impl Client {
    /// All pages of an answer.
    async fn all<R: Pages>(&self, mut request: R) -> Result<Vec<R::Item>, CallError> {
        let mut all = Vec::new();
        loop {
            let (items, next) = R::take(self.call(&request).await?);
            all.extend(items);
            match next {
                Some(token) => request.continue_at(token),
                None => return Ok(all),
            }
        }
    }

    /// All instances, those that ended lately too.
    pub(crate) async fn instances(&self) -> Result<Vec<Instance>, CallError> {
        self.all(DescribeInstancesRequest::default()).await
    }

    /// All images.
    pub(crate) async fn images(&self) -> Result<Vec<Image>, CallError> {
        self.all(DescribeImagesRequest::default()).await
    }

    /// All volumes.
    pub(crate) async fn volumes(&self) -> Result<Vec<Volume>, CallError> {
        self.all(DescribeVolumesRequest::default()).await
    }

    /// All instance types that the cloud offers.
    pub(crate) async fn instance_types(&self) -> Result<Vec<InstanceTypeInfo>, CallError> {
        self.all(DescribeInstanceTypesRequest::default()).await
    }

    /// The instance of an id or, unless it has ended or is about to, of a name.
    pub(crate) async fn instance(&self, named: &str) -> Result<Instance, FindError> {
        let request = if is_id(named, "i") {
            DescribeInstancesRequest { instance_id: vec![named.to_owned()], ..Default::default() }
        } else {
            DescribeInstancesRequest { filter: vec![exactly("tag:Name", named)], ..Default::default() }
        };
        let mut found = self.all(request).await?;
        if !is_id(named, "i") {
            let ending = [InstanceStateName::ShuttingDown, InstanceStateName::Terminated];
            found.retain(|instance| !ending.contains(&instance.instance_state.name));
        }
        one(found, "instance", named, |instance| &instance.instance_id)
    }

    /// The image of an id or a name.
    pub(crate) async fn image(&self, named: &str) -> Result<Image, FindError> {
        let request = if is_id(named, "ami") {
            DescribeImagesRequest { image_id: vec![named.to_owned()], ..Default::default() }
        } else {
            DescribeImagesRequest { filter: vec![exactly("name", named)], ..Default::default() }
        };
        one(self.all(request).await?, "image", named, |image| &image.image_id)
    }
}

/// A filter for one value, in which `*`, `?` and `\` mean themselves.
fn exactly(name: &str, value: &str) -> Filter {
    let mut escaped = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    Filter { name: name.to_owned(), value: vec![escaped] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_names() {
        assert!(is_id("i-0123456789abcdef0", "i"));
        assert!(is_id("ami-01234567", "ami"));
        for name in ["i-robot", "web", "i-", "i-0123456789ABCDEF0", "i-0123", "ami-01234567x", "i"] {
            assert!(!is_id(name, "i"), "{name}");
        }
        assert!(!is_id("i-01234567", "ami"));
    }

    #[test]
    fn a_name_must_lead_to_one_thing() {
        let find = |ids: &[&'static str]| one(ids.to_vec(), "instance", "web", |id| id);
        assert_eq!(find(&["i-1"]).unwrap(), "i-1");
        assert_eq!(find(&[]).unwrap_err().to_string(), "There is no instance named web");
        let several = find(&["i-1", "i-2"]).unwrap_err();
        assert_eq!(several.to_string(), "2 instances are named web: i-1, i-2");
    }

    #[test]
    fn wildcards_in_a_name_mean_themselves() {
        assert_eq!(exactly("tag:Name", r"a*b?c\d").value, [r"a\*b\?c\\d"]);
    }
}
