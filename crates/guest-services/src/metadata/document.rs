//! The instance identity document (AWS, *Instance identity documents*).

use serde_json::json;

use crate::view::InstanceView;

/// The identity document of an instance: JSON in EC2's own spacing, its fields in the order of their
/// names. Whoever signs it signs these bytes.
pub fn identity_document(view: &InstanceView) -> String {
    let fields = [
        ("accountId", json!(view.account_id)),
        ("architecture", json!(view.architecture)),
        ("availabilityZone", json!(view.zone)),
        ("billingProducts", json!(null)),
        ("devpayProductCodes", json!(null)),
        ("imageId", json!(view.image_id)),
        ("instanceId", json!(view.instance_id)),
        ("instanceType", json!(view.instance_type)),
        ("kernelId", json!(view.kernel_id)),
        ("marketplaceProductCodes", json!(null)),
        ("pendingTime", json!(view.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        ("privateIp", json!(view.primary.address)),
        ("ramdiskId", json!(view.ramdisk_id)),
        ("region", json!(view.region)),
        // Of the document's form, not of the service.
        ("version", json!("2017-09-30")),
    ];
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("  \"{name}\" : {value}")).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}
