//! Images. They are imported, not registered: an image made of snapshots waits for snapshots.

use cloud::World;
use cloud::model::Image;
use cloud::rules::images;
use ec2::shapes::common::Done;
use ec2::shapes::images as wire;
use ec2::shapes::volumes::VolumeType;
use ec2::{Error, Handler, Resource};
use spec::ids::{ImageId, SnapshotId};

use super::Api;
use super::common::{read_tags_for, tag_set, time};
use super::ids::{chosen, id, ids};
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("architecture", "architecture"),
            ("block-device-mapping.delete-on-termination", "blockDeviceMapping.ebs.deleteOnTermination"),
            ("block-device-mapping.device-name", "blockDeviceMapping.deviceName"),
            ("block-device-mapping.encrypted", "blockDeviceMapping.ebs.encrypted"),
            ("block-device-mapping.snapshot-id", "blockDeviceMapping.ebs.snapshotId"),
            ("block-device-mapping.volume-size", "blockDeviceMapping.ebs.volumeSize"),
            ("block-device-mapping.volume-type", "blockDeviceMapping.ebs.volumeType"),
            ("creation-date", "creationDate"),
            ("description", "description"),
            ("ena-support", "enaSupport"),
            ("free-tier-eligible", ""),
            ("hypervisor", "hypervisor"),
            ("image-allowed", ""),
            ("image-id", "imageId"),
            ("image-type", "imageType"),
            ("is-public", "isPublic"),
            ("kernel-id", "kernelId"),
            ("manifest-location", "imageLocation"),
            ("name", "name"),
            ("owner-alias", "imageOwnerAlias"),
            ("owner-id", "imageOwnerId"),
            ("platform", ""),
            ("product-code", "productCodes.productCode"),
            ("product-code.type", "productCodes.type"),
            ("public-ssm-parameter-name", ""),
            ("ramdisk-id", "ramdiskId"),
            ("root-device-name", "rootDeviceName"),
            ("root-device-type", "rootDeviceType"),
            ("source-image-id", ""),
            ("source-image-region", ""),
            ("source-instance-id", ""),
            ("sriov-net-support", ""),
            ("state", "imageState"),
            ("state-reason-code", "stateReason.code"),
            ("state-reason-message", "stateReason.message"),
            ("virtualization-type", "virtualizationType"),
        ],
        tags: Some("tagSet"),
    },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeImagesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeImagesRequest,
    ) -> Result<wire::DescribeImagesResponse, Error> {
        let wire::DescribeImagesRequest { image_id, owner, filter, max_results, next_token } = request;
        let ids = ids(&image_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        self.look(|world| {
            // Every image here is the account's own; other owners are not wrong, they just have none.
            let own = |owner: &String| *owner == "self" || *owner == world.settings.account;
            let mut rows = chosen::<Image>(world, &ids)?;
            rows.retain(|_| owner.is_empty() || owner.iter().any(own));
            let (images_set, next_token) =
                listing.of(rows, |(id, _)| id.to_string(), |(_, row)| show(world, row));
            Ok(wire::DescribeImagesResponse { images_set, next_token })
        })
    }
}

fn show(world: &World, row: &Image) -> wire::Image {
    let account = &world.settings.account;
    let root = wire::ImageBlockDeviceMapping {
        device_name: row.root_device.clone(),
        ebs: Some(wire::ImageEbsBlockDevice {
            delete_on_termination: true,
            snapshot_id: None,
            volume_size: row.least_gib(),
            volume_type: VolumeType::Gp3,
            encrypted: false,
        }),
    };
    wire::Image {
        image_id: row.id.to_string(),
        image_location: format!("{account}/{}", row.name),
        image_state: if row.available { wire::ImageState::Available } else { wire::ImageState::Pending },
        image_owner_id: account.clone(),
        image_owner_alias: None,
        creation_date: time(row.created),
        is_public: false,
        product_codes: Vec::new(),
        architecture: row.architecture.name().into(),
        image_type: "machine".into(),
        kernel_id: None,
        ramdisk_id: None,
        name: row.name.clone(),
        description: Some(row.description.clone()).filter(|text| !text.is_empty()),
        root_device_type: "ebs".into(),
        root_device_name: row.root_device.clone(),
        block_device_mapping: vec![root],
        virtualization_type: "hvm".into(),
        // EC2's word for Nitro here as well as for Xen.
        hypervisor: "xen".into(),
        // Guests have virtio network cards, not Amazon's.
        ena_support: None,
        platform_details: Some("Linux/UNIX".into()),
        usage_operation: Some("RunInstances".into()),
        boot_mode: None,
        imds_support: None,
        state_reason: None,
        tag_set: tag_set(&row.tags),
    }
}

impl Handler<wire::RegisterImageRequest> for Api {
    /// Finds what is wrong with the request; there is always something, as no snapshot can exist yet.
    async fn handle(
        &self,
        request: wire::RegisterImageRequest,
    ) -> Result<wire::RegisterImageResponse, Error> {
        let wire::RegisterImageRequest {
            architecture: _,
            block_device_mapping,
            description: _,
            ena_support: _,
            name: _,
            root_device_name: _,
            tag_specification,
            virtualization_type: _,
        } = request;
        read_tags_for("image", tag_specification)?;
        let mut snapshots =
            block_device_mapping.iter().filter_map(|device| device.ebs.as_ref()?.snapshot_id.as_deref());
        if let Some(snapshot) = snapshots.next() {
            let snapshot: SnapshotId = id(snapshot)?;
            return Err(Error::not_found(Resource::Snapshot, &snapshot.to_string()));
        }
        let text = "No root snapshot specified in device mapping. \
                    Images are imported from disks here: cumulet image import";
        Err(Error::new(400, "InvalidBlockDeviceMapping", text))
    }
}

impl Handler<wire::DeregisterImageRequest> for Api {
    async fn handle(&self, request: wire::DeregisterImageRequest) -> Result<Done, Error> {
        let wire::DeregisterImageRequest { image_id } = request;
        let id: ImageId = id(&image_id)?;
        self.change(move |tx| images::deregister(tx, id)).await?;
        Ok(Done::default())
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::Image>(&LISTED.fields), [""; 0]);
}
