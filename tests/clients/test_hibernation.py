"""Hibernation: asked for at launch, used by stop, seen in descriptions."""

from conftest import find, one, refused, until


def test_a_hibernated_instance_goes_on(ec2, launch):
    (instance,) = launch(HibernationOptions={"Configured": True})
    before = one(ec2, instance)
    assert before["HibernationOptions"] == {"Configured": True}
    assert instance in find(ec2, **{"hibernation-options.configured": "true"})
    stopping = ec2.stop_instances(InstanceIds=[instance], Hibernate=True)["StoppingInstances"][0]
    assert stopping["CurrentState"]["Name"] == "stopping"
    until(ec2, "instance_stopped", InstanceIds=[instance])
    stopped = one(ec2, instance)
    assert stopped["StateTransitionReason"].startswith("User initiated hibernate (")
    assert stopped["StateReason"] == {
        "Code": "Client.UserInitiatedHibernate",
        "Message": "Client.UserInitiatedHibernate: User initiated hibernate",
    }
    ec2.start_instances(InstanceIds=[instance])
    until(ec2, "instance_running", InstanceIds=[instance])
    after = one(ec2, instance)
    assert after["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert after["PublicIpAddress"] != before["PublicIpAddress"]


def test_devices_and_size_of_a_hibernated_instance_stay(ec2, launch):
    (instance,) = launch(HibernationOptions={"Configured": True})
    zone = one(ec2, instance)["Placement"]["AvailabilityZone"]
    ec2.stop_instances(InstanceIds=[instance], Hibernate=True)
    until(ec2, "instance_stopped", InstanceIds=[instance])
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    until(ec2, "volume_available", VolumeIds=[volume])
    with refused("IncorrectState"):
        ec2.attach_volume(InstanceId=instance, VolumeId=volume, Device="/dev/sdf")
    with refused("IncorrectState"):
        ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.small"})
    ec2.delete_volume(VolumeId=volume)


def test_what_was_not_launched_for_it_is_not_hibernated(ec2, launch):
    (instance,) = launch()
    assert one(ec2, instance)["HibernationOptions"] == {"Configured": False}
    with refused("UnsupportedHibernationConfiguration"):
        ec2.stop_instances(InstanceIds=[instance], Hibernate=True)
    with refused("InvalidParameterCombination"):
        ec2.stop_instances(InstanceIds=[instance], Hibernate=True, Force=True)
