//! Every action of the table, both ways, with all kinds of values: whoever adds an action has it tested here.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way should stop right there")]

mod common;

use common::{Chance, Random};
use ec2::actions::{
    About, Action, Call, Handler, Visitor, read_response, reference, service_of, visit, write_request,
    write_response,
};
use ec2::query::{Parameters, decode, encode};
use ec2::specimen::{Full, fill};
use ec2::{Error, Request, Service, Version};

fn version<A: Action>() -> Version {
    if A::ABOUT.service == Service::Sts { Version::STS } else { Version::EC2 }
}

fn parameters(body: &str) -> Parameters {
    Parameters::parse(&[body.as_bytes()]).unwrap()
}

/// Decodes what `encode` would send, without the common parameters.
fn sent<A: Action>(request: &A) -> A {
    let mut parameters = Parameters::default();
    for (name, value) in encode(request).unwrap() {
        parameters.insert(&name, value).unwrap();
    }
    // Not through the table: a parameter may have a field and be refused for now all the same.
    decode(parameters, &[]).unwrap_or_else(|problem| panic!("{}: {problem}", A::ABOUT.name))
}

struct Both;

impl Visitor for Both {
    fn visit<A: Action>(&mut self) {
        let name = A::ABOUT.name;
        for seed in 0..60 {
            let mut full = Chance { random: Random(seed), always: true };
            let request: A = fill(&mut full).unwrap();
            assert_eq!(encode(&sent(&request)), encode(&request), "{name}, seed {seed}");

            // Members that hold nothing cannot be sent, so what is sent may be less; but it is that from then on.
            let mut sparse = Chance { random: Random(seed), always: false };
            let once = sent(&fill::<A>(&mut sparse).unwrap());
            assert_eq!(encode(&sent(&once)), encode(&once), "{name}, seed {seed}");

            for always in [true, false] {
                let response = fill(&mut Chance { random: Random(seed), always }).unwrap();
                let document = write_response::<A>(&response, version::<A>(), "id").unwrap();
                let read = read_response::<A>(&document)
                    .unwrap_or_else(|problem| panic!("{name}: {problem}\n{document}"));
                let again = write_response::<A>(&read, version::<A>(), "id").unwrap();
                assert_eq!(again, document, "{name}, seed {seed}");
            }
        }
    }
}

#[test]
fn every_request_and_every_answer_comes_back() {
    visit(&mut Both);
}

struct Names(Vec<&'static str>);

impl Visitor for Names {
    fn visit<A: Action>(&mut self) {
        self.0.push(A::ABOUT.name);
    }
}

#[test]
fn every_action_is_named_once_and_has_its_place_in_the_reference() {
    let mut names = Names(Vec::new());
    visit(&mut names);
    let page = reference();
    for name in &names.0 {
        assert_eq!(page.matches(&format!("### {name}\n")).count(), 1, "{name}");
    }
    assert!(page.contains("| `BlockDeviceMapping.N.Ebs.VolumeSize` | whole number |"), "{page}");
    assert!(page.contains("| `MinCount` | whole number; required |"), "{page}");
    assert!(
        page.contains("| `Monitoring.Enabled` | not supported yet, only its default `false` |"),
        "{page}"
    );
}

/// Answers every action with a full sample.
struct Sample;

impl<A: Action> Handler<A> for Sample {
    async fn handle(&self, _request: A) -> Result<A::Response, Error> {
        fill(&mut Full).ok_or_else(Error::internal_error)
    }
}

/// What a future that never waits comes to. A server may also move it to another thread.
fn at_once<T>(future: impl Future<Output = T> + Send) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

struct Dispatch;

impl Visitor for Dispatch {
    fn visit<A: Action>(&mut self) {
        let About { name, service, unobeyed, .. } = A::ABOUT;
        let request: A = fill(&mut Full).unwrap();
        let body = write_request(&request, service == Service::Ec2).unwrap();
        // A parameter may have a field and be refused for now all the same.
        let allowed = |piece: &&str| {
            let name = piece.split('=').next().unwrap().replace(".1", ".N");
            !unobeyed.iter().any(|entry| entry.covers(&name))
        };
        let body = body.split('&').filter(allowed).collect::<Vec<_>>().join("&");
        let call = Call::decode(parameters(&body)).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(call.request.about().name, name);
        assert_eq!((call.version, call.dry_run), (version::<A>(), service == Service::Ec2));
        let document = at_once(call.answer(&Sample, "id-1")).unwrap();
        let response = read_response::<A>(&document).unwrap();
        assert_eq!(write_response::<A>(&response, version::<A>(), "id-1").unwrap(), document);
    }
}

#[test]
fn every_action_reaches_its_handler() {
    visit(&mut Dispatch);
}

#[test]
fn an_answer_is_in_the_namespace_of_the_version_that_was_asked() {
    for (body, begins) in [
        (
            "Action=DescribeRegions&Version=2016-11-15",
            "<DescribeRegionsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>id</requestId>\
             <regionInfo><item><regionName>",
        ),
        (
            "Action=DescribeRegions&Version=2014-10-01",
            "<DescribeRegionsResponse xmlns=\"http://ec2.amazonaws.com/doc/2014-10-01/\"><requestId>id",
        ),
        (
            "Action=GetCallerIdentity&Version=2011-06-15",
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <GetCallerIdentityResult><Arn>",
        ),
    ] {
        let document = at_once(Call::decode(parameters(body)).unwrap().answer(&Sample, "id")).unwrap();
        let content = document.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap();
        assert!(content.starts_with(begins), "{content}");
    }
}

#[test]
fn an_answer_to_another_action_is_not_read() {
    use ec2::shapes::instances::{StartInstancesRequest, StopInstancesRequest};
    let answer = fill(&mut Full).unwrap();
    let document = write_response::<StartInstancesRequest>(&answer, Version::EC2, "id").unwrap();
    assert_eq!(read_response::<StartInstancesRequest>(&document), Ok(answer));
    assert!(read_response::<StopInstancesRequest>(&document).is_err());
}

#[test]
fn the_version_tells_the_service() {
    for (body, service) in [
        ("Version=2011-06-15", Service::Sts),
        ("Version=2016-11-15", Service::Ec2),
        ("Version=1999-01-01", Service::Ec2),
        ("", Service::Ec2),
    ] {
        assert_eq!(service_of(&parameters(body)), service, "{body}");
    }
}

#[test]
fn a_request_that_cannot_be_obeyed_is_refused_as_ec2_does() {
    const RUN: &str = "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=1";
    for (body, code, says) in [
        ("Version=2016-11-15", "MissingAction", "Action"),
        ("Action=DescribeVpcs", "MissingParameter", "Version"),
        ("Action=DescribeVpcs&Version=2016-11-16", "NoSuchVersion", "2016-11-16"),
        ("Action=DescribeVpcs&Version=%3Cx%3E", "NoSuchVersion", "<x>"),
        ("Action=MakeCoffee&Version=2016-11-15", "InvalidAction", "MakeCoffee"),
        ("Action=GetCallerIdentity&Version=2016-11-15", "InvalidAction", "GetCallerIdentity"),
        ("Action=DescribeVpcs&Version=2011-06-15", "InvalidAction", "DescribeVpcs"),
        ("Action=GetCallerIdentity&Version=2011-06-15&DryRun=true", "UnknownParameter", "DryRun"),
        ("Action=DescribeVpcs&Version=2016-11-15&DryRun=maybe", "InvalidParameterValue", "(maybe)"),
        ("Action=DescribeVpcs&Version=2016-11-15&DryRun.1=true", "UnknownParameter", "DryRun.1"),
        ("Action=RunInstances&Version=2016-11-15&MinCount=1", "MissingParameter", "MaxCount"),
        ("Action=StopInstances&Version=2016-11-15", "MissingParameter", "parameter InstanceId"),
        (&format!("{RUN}&ImageID=ami-1"), "UnknownParameter", "ImageID"),
        (&format!("{RUN}&imageId=ami-1"), "UnknownParameter", "imageId"),
        (&format!("{RUN}&Filter=x"), "UnknownParameter", "Filter"),
        ("Action=DescribeVpcs&Version=2016-11-15&Filter.1=x", "UnknownParameter", "Filter.1 is"),
        (&format!("{RUN}&SecurityGroupId=sg-1"), "UnknownParameter", "SecurityGroupId"),
        (&format!("{RUN}&SecurityGroupId.0=sg-1"), "UnknownParameter", "SecurityGroupId.0"),
        (&format!("{RUN}&SecurityGroupId.01=sg-1"), "UnknownParameter", "SecurityGroupId.01"),
        (&format!("{RUN}&SecurityGroupId.member.1=sg-1"), "UnknownParameter", "SecurityGroupId.member.1"),
        (
            &format!("{RUN}&SecurityGroupId.99999999999=sg-1"),
            "UnknownParameter",
            "SecurityGroupId.99999999999",
        ),
        (&format!("{RUN}&ImageId.1=ami-1"), "UnknownParameter", "ImageId.1"),
        (&format!("{RUN}&ImageId=a&ImageId=b"), "InvalidParameterCombination", "ImageId"),
        (&format!("{RUN}&ImageId=%zz"), "MalformedQueryString", "decoded"),
        ("Action=RunInstances&Version=2016-11-15&MinCount=one&MaxCount=1", "InvalidParameterValue", "(one)"),
        (
            "Action=RunInstances&Version=2016-11-15&MinCount=-1&MaxCount=1",
            "InvalidParameterValue",
            "MinCount",
        ),
        ("Action=RunInstances&Version=2016-11-15&MinCount=&MaxCount=1", "InvalidParameterValue", "MinCount"),
        (&format!("{RUN}&UserData=%25%25"), "InvalidUserData.Malformed", "base64"),
        (
            &format!("{RUN}&InstanceInitiatedShutdownBehavior=explode"),
            "InvalidParameterValue",
            "(explode) for parameter InstanceInitiatedShutdownBehavior is invalid. Expected one of: stop, terminate.",
        ),
        (
            &format!("{RUN}&BlockDeviceMapping.2.DeviceName=x&BlockDeviceMapping.2.Ebs.VolumeSize=big"),
            "InvalidParameterValue",
            "(big) for parameter BlockDeviceMapping.2.Ebs.VolumeSize is invalid.",
        ),
        (
            &format!("{RUN}&BlockDeviceMapping.2.Ebs.VolumeSize=1"),
            "MissingParameter",
            "parameter BlockDeviceMapping.2.DeviceName",
        ),
        (
            &format!("{RUN}&BlockDeviceMapping.2.Ebs.Encrypted=true&BlockDeviceMapping.2.DeviceName=x"),
            "UnsupportedOperation",
            "BlockDeviceMapping.2.Ebs.Encrypted is not supported yet: leave it out, or state EC2's default, false",
        ),
        (
            &format!("{RUN}&BlockDeviceMapping.2.Ebs.Encrypted=false"),
            "MissingParameter",
            "parameter BlockDeviceMapping.2.DeviceName",
        ),
        (&format!("{RUN}&LaunchTemplate.Version=1"), "UnsupportedOperation", "LaunchTemplate.Version"),
    ] {
        let refused = Parameters::parse(&[body.as_bytes()]).map_err(Error::from).and_then(Call::decode);
        let error = refused.expect_err(body);
        assert_eq!((error.code(), error.status()), (code, 400), "{body}: {error}");
        assert!(error.message().contains(says), "{body}: {error}");
    }
}

#[test]
fn a_refusal_quotes_no_more_than_the_beginning_of_a_value() {
    let body = format!("Action=DescribeVpcs&Version=2016-11-15&MaxResults={}", "é".repeat(5000));
    let error = Call::decode(parameters(&body)).unwrap_err();
    assert!(error.message().contains(&format!("({})", "é".repeat(100))), "{error}");
}

#[test]
fn a_request_may_be_said_in_many_ways() {
    let body = "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=2&DryRun=False\
                &SecurityGroupId.10=c&SecurityGroupId.9=b&SecurityGroupId.2=a&EbsOptimized=FALSE\
                &UserData=IyEvYmluL3No%0ACg%3D%3D&X-Amz-Signature=0&AWSAccessKeyId=x\
                &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=k";
    let Call { dry_run, request: Request::RunInstances(request), .. } =
        Call::decode(parameters(body)).unwrap()
    else {
        panic!("another action");
    };
    assert!(!dry_run);
    assert_eq!(request.security_group_id, ["a", "b", "c"]);
    assert_eq!(request.user_data.unwrap().0, b"#!/bin/sh\n");
    assert_eq!(request.tag_specification[0].tag[0].value, "");
    assert_eq!(request.image_id, None);
}

#[test]
fn the_reference_page_is_made_of_it() {
    let is_so = include_str!("../../../docs/reference/api.md") == ec2::actions::reference();
    assert!(is_so, "to renew it: cargo run -p ec2 --example reference > docs/reference/api.md");
}
