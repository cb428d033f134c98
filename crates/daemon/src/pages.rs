//! Lists in pages: `MaxResults` and `NextToken`.
//!
//! A token holds the key of the last thing shown, so a page goes on behind it whatever was made or deleted
//! meanwhile: nothing that was there all along is shown twice or left out. It also holds a mark of the request it
//! belongs to; any other request refuses it. Nothing is kept for it.
//! Source: AWS API reference, *Pagination*.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ec2::Error;
use ec2::shapes::common::Filter;
use serde::Serialize;
use spec::Fingerprint;

use crate::filters::{Fields, Filters};

/// Digits of the mark at the head of a token.
const MARK: usize = 16;

/// How a family's things are listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its filters.
    pub fields: Fields,
    /// What `MaxResults` may be.
    pub results: RangeInclusive<i32>,
    /// EC2's name for the list of ids, where it refuses to page what was named by id.
    pub not_with: Option<&'static str>,
}

/// What EC2 allows of `MaxResults` nearly everywhere.
pub const MAX_RESULTS: RangeInclusive<i32> = 5..=1000;

impl Listed {
    /// Reads a Describe's filters and paging. `ids` is how many things it names.
    ///
    /// # Errors
    /// For a bad filter see [`Filters::read`]. `InvalidParameterValue` for `MaxResults` out of bounds,
    /// `InvalidParameterCombination` where it may not stand beside ids, `InvalidNextToken` for a token that is not from
    /// the same request.
    pub fn read(
        &'static self,
        ids: usize,
        filter: &[Filter],
        max_results: Option<i32>,
        next_token: Option<String>,
    ) -> Result<Listing, Error> {
        let filters = Filters::read(&self.fields, filter)?;
        if let Some(set) = self.not_with.filter(|_| ids > 0 && max_results.is_some()) {
            let text = format!("The parameter {set} cannot be used with the parameter maxResults");
            return Err(Error::invalid_parameter_combination(text));
        }
        let most = max_results.map(|most| bounded(most, &self.results)).transpose()?;
        let mut listing =
            Listing { fields: &self.fields, filters, most: most.unwrap_or(usize::MAX), after: None };
        // Clients that page by themselves may send an empty token first.
        if let Some(token) = next_token.filter(|token| !token.is_empty()) {
            listing.after = Some(listing.read_token(&token)?);
        }
        Ok(listing)
    }
}

/// What one request wants to see of a list.
#[derive(Debug)]
pub struct Listing {
    /// The family's table, which tells its marks from other families'.
    fields: &'static Fields,
    filters: Filters,
    most: usize,
    after: Option<String>,
}

impl Listing {
    /// The part of `rows` to show, and the token for the rest. The rows come in the order of their keys; each is shown
    /// (and so can be filtered) only when the page gets there.
    pub fn of<R, T: Serialize>(
        &self,
        rows: impl IntoIterator<Item = R>,
        key: impl Fn(&R) -> String,
        show: impl Fn(&R) -> T,
    ) -> (Vec<T>, Option<String>) {
        let mut page = Vec::new();
        let mut last = None;
        for row in rows {
            let key = key(&row);
            if self.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            let thing = show(&row);
            if !self.filters.pass(&thing) {
                continue;
            }
            if page.len() >= self.most {
                return (page, last.map(|last: String| self.token(&last)));
            }
            page.push(thing);
            last = Some(key);
        }
        (page, None)
    }

    fn token(&self, last: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("{}{last}", self.mark(last)))
    }

    fn read_token(&self, token: &str) -> Result<String, Error> {
        let decoded =
            BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let parts = decoded.as_deref().and_then(|text| text.split_at_checked(MARK));
        let last = parts.filter(|(mark, last)| **mark == self.mark(last).to_string());
        last.map(|(_, last)| last.to_owned()).ok_or_else(|| {
            let token: String = token.chars().take(100).collect();
            Error::new(400, "InvalidNextToken", format!("The token '{token}' is invalid for this request"))
        })
    }

    /// Sixteen digits that say which request a token is for. It keeps mistakes out, not forgers: whoever may ask for
    /// one page may ask for any.
    fn mark(&self, last: &str) -> Fingerprint {
        Fingerprint::of(&(self.fields, &self.filters, last))
    }
}

fn bounded(most: i32, allowed: &RangeInclusive<i32>) -> Result<usize, Error> {
    let good = Some(most).filter(|most| allowed.contains(most)).and_then(|most| usize::try_from(most).ok());
    good.ok_or_else(|| {
        let why = format!("Expecting a value between {} and {}.", allowed.start(), allowed.end());
        Error::invalid_parameter_value("maxResults", &most.to_string(), &why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static LISTED: Listed = Listed {
        fields: Fields { paths: &[("name", "name")], tags: None },
        results: MAX_RESULTS,
        not_with: Some("thingSet"),
    };
    static OTHERS: Listed =
        Listed { fields: Fields { paths: &[], tags: None }, results: MAX_RESULTS, not_with: None };

    #[derive(Serialize)]
    struct Thing {
        name: String,
    }

    fn filter(values: &[&str]) -> Vec<Filter> {
        vec![Filter { name: "name".into(), value: values.iter().map(|value| (*value).to_owned()).collect() }]
    }

    fn read(filter: &[Filter], most: Option<i32>, token: Option<&str>) -> Result<Listing, Error> {
        LISTED.read(0, filter, most, token.map(str::to_owned))
    }

    fn page(listing: &Listing, things: &[usize]) -> (Vec<String>, Option<String>) {
        let name = |thing: &usize| format!("{thing:03}");
        let (page, token) = listing.of(things.iter().copied(), name, |thing| Thing { name: name(thing) });
        (page.into_iter().map(|thing| thing.name).collect(), token)
    }

    #[test]
    fn pages_join_to_the_whole_though_things_come_and_go() {
        let things: Vec<usize> = (0..23).collect();
        let (first, token) = page(&read(&[], Some(10), None).unwrap(), &things);
        assert_eq!(first.len(), 10);
        // The last one shown is gone, one before it is new.
        let changed: Vec<usize> = things.iter().copied().filter(|thing| *thing != 9).collect();
        let (second, token) = page(&read(&[], Some(10), token.as_deref()).unwrap(), &changed);
        assert_eq!((second.first().map(String::as_str), second.len()), (Some("010"), 10));
        let (third, token) = page(&read(&[], Some(5), token.as_deref()).unwrap(), &changed);
        assert_eq!((third.len(), token), (3, None));
    }

    #[test]
    fn a_page_that_ends_with_the_list_has_no_token() {
        let things: Vec<usize> = (0..10).collect();
        assert_eq!(page(&read(&[], Some(10), None).unwrap(), &things).1, None);
        let filter = filter(&["00?"]);
        assert_eq!(page(&read(&filter, Some(10), None).unwrap(), &(0..99).collect::<Vec<_>>()).1, None);
    }

    #[test]
    fn a_token_is_good_for_its_own_request_only() {
        let things: Vec<usize> = (0..23).collect();
        let (_, token) = page(&read(&[], Some(5), None).unwrap(), &things);
        let token = token.unwrap();
        let code =
            |result: Result<Listing, Error>| result.map(|_| ()).map_err(|error| error.code().to_owned());
        assert_eq!(code(read(&[], Some(7), Some(&token))), Ok(()));
        assert_eq!(code(read(&[], None, Some(""))), Ok(()));
        let bad = Err("InvalidNextToken".to_owned());
        assert_eq!(code(read(&filter(&["*"]), Some(5), Some(&token))), bad);
        assert_eq!(code(OTHERS.read(0, &[], Some(5), Some(token.clone()))), bad);
        for nonsense in ["x", "é", "AAAA", &token[1..], &format!("{token}AAAA")] {
            assert_eq!(code(read(&[], Some(5), Some(nonsense))), bad, "{nonsense}");
        }
    }

    #[test]
    fn max_results_has_bounds_and_stands_alone() {
        for (most, good) in [(-1, false), (0, false), (4, false), (5, true), (1000, true), (1001, false)] {
            assert_eq!(read(&[], Some(most), None).is_ok(), good, "{most}");
        }
        let both = LISTED.read(1, &[], Some(5), None).unwrap_err();
        assert_eq!(both.code(), "InvalidParameterCombination");
        assert!(LISTED.read(1, &[], None, None).is_ok());
    }
}
