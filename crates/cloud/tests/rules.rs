//! What commands are refused, beside an instance's life.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

#[allow(dead_code, reason = "the tests beside this one use the rest")]
mod common;

use cloud::Reason;
use cloud::model::*;
use cloud::refusal::Kind;
use cloud::rules::instance_attributes::{self, Attribute};
use cloud::rules::launch::{Launch, MAX_GROUPS, run_instances};
use cloud::rules::security_groups::{self, NewGroup};
use cloud::rules::{self, images, tags};
use common::Cloud;
use spec::ids::InterfaceId;
use tests::small_world::launch;

fn group(cloud: &mut Cloud, name: String) -> spec::ids::GroupId {
    let new = NewGroup { name, description: "for a test".into(), vpc: None, tags: Tags::new() };
    cloud.command(|tx| security_groups::create(tx, new.clone())).unwrap()
}

#[test]
fn an_interface_is_in_a_bounded_number_of_groups() {
    let (mut cloud, image) = Cloud::new();
    let mut command = launch(image);
    command.groups = (0..MAX_GROUPS).map(|number| group(&mut cloud, format!("g{number}"))).collect();
    cloud.command(|tx| run_instances(tx, &command)).unwrap();
    command.groups.insert(group(&mut cloud, "one more".into()));
    let refused = cloud.command(|tx| run_instances(tx, &command)).unwrap_err();
    assert_eq!(refused.reason, Reason::LimitExceeded(Kind::Group));
}

#[test]
fn what_is_gone_for_users_has_no_tags() {
    let (mut cloud, image) = Cloud::new();
    let thing = [tags::Tagged::Row(Key::Image(image))];
    let some: Tags = [("name".to_owned(), "value".to_owned())].into();
    cloud.command(|tx| tags::create(tx, &thing, &some)).unwrap();
    assert_eq!(tags::all(&cloud.world).len(), 1);
    // An instance of the image keeps its row.
    cloud.command(|tx| run_instances(tx, &launch(image))).unwrap();
    cloud.command(|tx| images::deregister(tx, image)).unwrap();
    assert!(cloud.world.images.contains_key(&image) && tags::all(&cloud.world).is_empty());
    let refused = cloud.command(|tx| tags::create(tx, &thing, &some)).unwrap_err();
    assert_eq!(refused.reason, Reason::NotFound(Kind::Image));
}

#[test]
fn what_is_meant_of_several_interfaces_must_be_said() {
    let (mut cloud, image) = Cloud::new();
    let kind = Some("t3.small".into());
    let reservation =
        cloud.command(|tx| run_instances(tx, &Launch { instance_type: kind.clone(), ..launch(image) }));
    let id = cloud.world.launched(reservation.unwrap()).next().unwrap().id;
    cloud.converge();
    cloud.command(|tx| rules::instances::stop(tx, &[id], rules::instances::Stop::Forced)).unwrap();
    cloud.converge();
    let first = cloud.world.primary_interface(id).unwrap().clone();
    for number in 1..3 {
        let attachment =
            first.attachment.clone().map(|at| InterfaceAttachment { device_index: number, ..at });
        let address = std::net::Ipv4Addr::from(u32::from(first.address) + number);
        let id = InterfaceId::from_random(u64::from(number));
        cloud.world.put(Interface { id, address, attachment, ..(*first).clone() }.into());
    }
    let mut modify = |attribute| {
        let refused = cloud.command(|tx| instance_attributes::modify(tx, id, &attribute));
        refused.map_err(|refusal| refusal.reason)
    };
    assert_eq!(modify(Attribute::SourceDestCheck(false)), Err(Reason::SeveralInterfaces));
    assert_eq!(modify(Attribute::Groups(first.groups.clone())), Err(Reason::SeveralInterfaces));
    let small = Attribute::InstanceType("t3.nano".into());
    assert_eq!(modify(small), Err(Reason::InvalidAttributeValue), "it has room for two");
    assert_eq!(modify(Attribute::InstanceType("t3.large".into())), Ok(()));
}
