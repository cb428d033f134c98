//! Tags on whatever has an id.

use cloud::rules::tags::{self, Selector, Tagged};
use ec2::shapes::common::Done;
use ec2::shapes::tags as wire;
use ec2::{Error, Handler};

use super::Api;
use super::common::read_tags;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

/// Things in one request at most (AWS API reference, *CreateTags*).
const MAX_THINGS: usize = 1000;

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("key", "key"),
            ("resource-id", "resourceId"),
            ("resource-type", "resourceType"),
            ("value", "value"),
        ],
        tags: Some(""),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeTagsRequest> for Api {
    async fn handle(&self, request: wire::DescribeTagsRequest) -> Result<wire::DescribeTagsResponse, Error> {
        let wire::DescribeTagsRequest { filter, max_results, next_token } = request;
        let listing = LISTED.read(0, &filter, max_results, next_token)?;
        self.look(|world| {
            let mut rows = tags::all(world);
            rows.sort_unstable();
            let key = |(id, _, key, _): &(String, &str, String, String)| format!("{id} {key}");
            let (tag_set, next_token) =
                listing.of(rows, key, |(id, kind, key, value)| wire::TagDescription {
                    resource_id: id.clone(),
                    resource_type: (*kind).into(),
                    key: key.clone(),
                    value: value.clone(),
                });
            Ok(wire::DescribeTagsResponse { tag_set, next_token })
        })
    }
}

impl Handler<wire::CreateTagsRequest> for Api {
    async fn handle(&self, request: wire::CreateTagsRequest) -> Result<Done, Error> {
        let wire::CreateTagsRequest { resource_id, tag } = request;
        let things = read_things(&resource_id)?;
        let tags = read_tags(tag)?;
        self.change(move |tx| tags::create(tx, &things, &tags)).await?;
        Ok(Done::default())
    }
}

impl Handler<wire::DeleteTagsRequest> for Api {
    async fn handle(&self, request: wire::DeleteTagsRequest) -> Result<Done, Error> {
        let wire::DeleteTagsRequest { resource_id, tag } = request;
        let things = read_things(&resource_id)?;
        let mut selectors: Vec<Selector> =
            tag.into_iter().map(|wire::TagToDelete { key, value }| Selector::Key(key, value)).collect();
        if selectors.is_empty() {
            selectors.push(Selector::All);
        }
        self.change(move |tx| tags::delete(tx, &things, &selectors)).await?;
        Ok(Done::default())
    }
}

/// The things that are to be tagged, by their ids.
fn read_things(ids: &[String]) -> Result<Vec<Tagged>, Error> {
    if ids.len() > MAX_THINGS {
        let text = format!("A request can tag {MAX_THINGS} resources, not {}", ids.len());
        return Err(Error::new(400, "InvalidParameterValue", text));
    }
    let thing = |id: &String| {
        id.parse().map_err(|_| {
            let id: String = id.chars().take(64).collect();
            Error::new(400, "InvalidID", format!("The ID '{id}' is not valid"))
        })
    };
    ids.iter().map(thing).collect()
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::TagDescription>(&LISTED.fields), [""; 0]);
}
