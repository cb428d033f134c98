//! What EC2 answers when it refuses: a code that programs match on, an HTTP status, a sentence for people.
//!
//! Codes and statuses are those of Amazon's list,
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>. The sentence is all that the
//! caller sees, so it names the parameter or the resource. Statuses of 500 and above make SDKs try again for
//! minutes: use them only where trying again can help.

use std::borrow::Cow;

use serde::Deserialize;

use crate::query::QueryError;
use crate::version::{Service, Version};
use crate::xml::{self, XmlError};

/// A refusal as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    status: u16,
    code: Cow<'static, str>,
    message: String,
}

impl Error {
    /// A refusal with any code. Prefer the constructors below, which know EC2's codes, statuses and sentences.
    #[must_use]
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// The HTTP status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// EC2's code, such as `InvalidInstanceID.NotFound`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `InvalidAction`: no such action, or none that is answered here.
    #[must_use]
    pub fn invalid_action(action: &str) -> Self {
        Self::new(400, "InvalidAction", format!("The action {action} is not valid for this web service."))
    }

    /// `NoSuchVersion`: no version of the API has that date.
    #[must_use]
    pub fn no_such_version(date: &str) -> Self {
        let message = format!("The requested version ({date}) of service AmazonEC2 does not exist");
        Self::new(400, "NoSuchVersion", message)
    }

    /// `MissingParameter`: for rules that no shape can state, such as one of two parameters.
    #[must_use]
    pub fn missing_parameter(parameter: &str) -> Self {
        Self::new(400, "MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    /// `InvalidParameterValue`. `why` is a sentence that says what would be accepted.
    #[must_use]
    pub fn invalid_parameter_value(parameter: &str, value: &str, why: &str) -> Self {
        let message = format!("Value ({value}) for parameter {parameter} is invalid. {why}");
        Self::new(400, "InvalidParameterValue", message)
    }

    /// `InvalidParameterCombination`: parameters that exclude or demand each other.
    #[must_use]
    pub fn invalid_parameter_combination(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterCombination", message)
    }

    /// `UnsupportedOperation`: EC2 would do it, we do not (yet).
    #[must_use]
    pub fn unsupported_operation(message: impl Into<String>) -> Self {
        Self::new(400, "UnsupportedOperation", message)
    }

    /// `IncorrectInstanceState`: the instance is not in a state that allows the action.
    #[must_use]
    pub fn incorrect_instance_state(instance_id: &str, action: &str) -> Self {
        let message =
            format!("The instance '{instance_id}' is not in a state from which it can be {action}.");
        Self::new(400, "IncorrectInstanceState", message)
    }

    /// `DryRunOperation`: everything was checked and nothing done, as asked.
    #[must_use]
    pub fn dry_run_operation() -> Self {
        let message = "Request would have succeeded, but DryRun flag is set.";
        Self::new(412, "DryRunOperation", message)
    }

    /// `UnauthorizedOperation`: the caller is known and may not do this.
    #[must_use]
    pub fn unauthorized_operation() -> Self {
        let message = "You are not authorized to perform this operation.";
        Self::new(403, "UnauthorizedOperation", message)
    }

    /// `DependencyViolation`: `id` is still used by `user`.
    #[must_use]
    pub fn dependency_violation(id: &str, user: &str) -> Self {
        let message = format!("The resource {id} cannot be deleted while {user} depends on it.");
        Self::new(400, "DependencyViolation", message)
    }

    /// `IdempotentParameterMismatch`: a client token came again with other parameters.
    #[must_use]
    pub fn idempotent_parameter_mismatch() -> Self {
        let message = "Arguments on this idempotent request are inconsistent with arguments used in previous \
                       request(s).";
        Self::new(400, "IdempotentParameterMismatch", message)
    }

    /// `InsufficientInstanceCapacity`: the host is full now; trying again later can help, hence 500 as in EC2.
    #[must_use]
    pub fn insufficient_instance_capacity(message: impl Into<String>) -> Self {
        Self::new(500, "InsufficientInstanceCapacity", message)
    }

    /// `InternalError`: our fault. Nothing of the cause goes to the caller; log it.
    #[must_use]
    pub fn internal_error() -> Self {
        Self::new(500, "InternalError", "An internal error has occurred")
    }

    /// `ServiceUnavailable`: up, but not able to answer for the moment.
    #[must_use]
    pub fn service_unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "The request failed due to a temporary failure of the server.")
    }

    /// No such resource: `InvalidVolume.NotFound` and its like.
    #[must_use]
    pub fn not_found(resource: Resource, id: &str) -> Self {
        Self::none_found(resource, &[id])
    }

    /// Several resources of one request that do not exist, named together as EC2 does.
    #[must_use]
    pub fn none_found<S: AsRef<str>>(resource: Resource, ids: &[S]) -> Self {
        let (code, noun) = resource.not_found();
        let named = ids.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
        let message = match (resource, ids.len()) {
            (Resource::Image, 1) => format!("The {noun} '[{named}]' does not exist"),
            (Resource::Image, _) => format!("The {noun}s '[{named}]' do not exist"),
            (_, 1) => format!("The {noun} '{named}' does not exist"),
            _ => format!("The {noun}s '{named}' do not exist"),
        };
        Self::new(400, code, message)
    }

    /// A name that is taken: `InvalidKeyPair.Duplicate`, `InvalidGroup.Duplicate`.
    #[must_use]
    pub fn already_exists(resource: Resource, name: &str) -> Self {
        let (code, noun) = resource.not_found();
        let stem = code.split('.').next().unwrap_or(code);
        Self::new(400, format!("{stem}.Duplicate"), format!("The {noun} '{name}' already exists"))
    }

    /// `InvalidPermission.Duplicate`: a security group has the rule already; `rule` is it in words.
    #[must_use]
    pub fn rule_already_exists(rule: &str) -> Self {
        Self::new(400, "InvalidPermission.Duplicate", format!("the specified rule \"{rule}\" already exists"))
    }

    /// `InvalidPermission.NotFound`: a security group has no such rule.
    #[must_use]
    pub fn rule_not_found() -> Self {
        let message = "The specified rule does not exist in this security group.";
        Self::new(400, "InvalidPermission.NotFound", message)
    }

    /// An id that does not have the form of its kind: `InvalidInstanceID.Malformed` and its like.
    #[must_use]
    pub fn malformed_id(resource: Resource, id: &str) -> Self {
        let (code, prefix) = resource.malformed();
        Self::new(400, code, format!("Invalid id: \"{id}\" (expecting \"{prefix}-...\")"))
    }

    /// The XML body of this refusal, in the shape of the service that was asked.
    #[must_use]
    pub fn to_xml(&self, service: Service, request_id: &str) -> String {
        let code = xml::text_element("Code", &self.code);
        let message = xml::text_element("Message", &self.message);
        match service {
            Service::Ec2 => {
                let id = xml::text_element("RequestID", request_id);
                let content = format!("<Errors><Error>{code}{message}</Error></Errors>{id}");
                xml::document("Response", None, &content)
            }
            Service::Sts => {
                let id = xml::text_element("RequestId", request_id);
                let fault = xml::text_element("Type", if self.status < 500 { "Sender" } else { "Receiver" });
                let content = format!("<Error>{fault}{code}{message}</Error>{id}");
                xml::document("ErrorResponse", Some(&Version::STS.namespace()), &content)
            }
        }
    }

    /// Reads a refusal back, of EC2 or STS, with the id of the request. `status` is the HTTP status it came with.
    ///
    /// # Errors
    /// [`XmlError`] when the body is neither service's envelope.
    pub fn from_xml(status: u16, body: &str) -> Result<(Self, String), XmlError> {
        let document = xml::Document::parse(body)?;
        let (ErrorBody { code, message }, request_id) = if document.root_name() == "ErrorResponse" {
            let StsEnvelope { error, request_id } = document.read()?;
            (error, request_id)
        } else {
            let Ec2Envelope { errors, request_id } = document.read()?;
            (errors.error, request_id)
        };
        Ok((Self::new(status, code, message), request_id))
    }
}

impl From<QueryError> for Error {
    fn from(problem: QueryError) -> Self {
        Self::new(400, problem.code(), problem.to_string())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    code: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ec2Envelope {
    errors: Errors,
    #[serde(rename = "RequestID")]
    request_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Errors {
    error: ErrorBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StsEnvelope {
    error: ErrorBody,
    request_id: String,
}

/// Kinds of resources, for the codes that EC2 spells differently for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is EC2's own word for the resource")]
pub enum Resource {
    Address,
    DhcpOptions,
    Image,
    Instance,
    InternetGateway,
    KeyPair,
    NetworkAcl,
    NetworkInterface,
    NetworkInterfaceAttachment,
    RouteTable,
    SecurityGroup,
    SecurityGroupRule,
    Snapshot,
    Subnet,
    Volume,
    VolumeModification,
    Vpc,
}

impl Resource {
    /// The code when there is none of that id, and the noun of its sentence.
    fn not_found(self) -> (&'static str, &'static str) {
        match self {
            Self::Address => ("InvalidAllocationID.NotFound", "allocation ID"),
            Self::DhcpOptions => ("InvalidDhcpOptionID.NotFound", "dhcp options ID"),
            Self::Image => ("InvalidAMIID.NotFound", "image id"),
            Self::Instance => ("InvalidInstanceID.NotFound", "instance ID"),
            Self::InternetGateway => ("InvalidInternetGatewayID.NotFound", "internetGateway ID"),
            Self::KeyPair => ("InvalidKeyPair.NotFound", "key pair"),
            Self::NetworkAcl => ("InvalidNetworkAclID.NotFound", "network acl ID"),
            Self::NetworkInterface => ("InvalidNetworkInterfaceID.NotFound", "networkInterface ID"),
            Self::NetworkInterfaceAttachment => {
                ("InvalidAttachmentID.NotFound", "networkInterface attachment ID")
            }
            Self::RouteTable => ("InvalidRouteTableID.NotFound", "routeTable ID"),
            Self::SecurityGroup => ("InvalidGroup.NotFound", "security group"),
            Self::SecurityGroupRule => ("InvalidSecurityGroupRuleId.NotFound", "security group rule ID"),
            Self::Snapshot => ("InvalidSnapshot.NotFound", "snapshot"),
            Self::Subnet => ("InvalidSubnetID.NotFound", "subnet ID"),
            Self::Volume => ("InvalidVolume.NotFound", "volume"),
            Self::VolumeModification => ("InvalidVolumeModification.NotFound", "modification for volume"),
            Self::Vpc => ("InvalidVpcID.NotFound", "vpc ID"),
        }
    }

    /// The code for an id of the wrong form, and the prefix it should have.
    fn malformed(self) -> (&'static str, &'static str) {
        match self {
            Self::Address => ("InvalidAllocationID.Malformed", "eipalloc"),
            Self::DhcpOptions => ("InvalidDhcpOptionsId.Malformed", "dopt"),
            Self::Image => ("InvalidAMIID.Malformed", "ami"),
            Self::Instance => ("InvalidInstanceID.Malformed", "i"),
            Self::InternetGateway => ("InvalidInternetGatewayId.Malformed", "igw"),
            Self::KeyPair => ("InvalidKeyPairId.Malformed", "key"),
            Self::NetworkAcl => ("InvalidNetworkAclId.Malformed", "acl"),
            Self::NetworkInterface => ("InvalidNetworkInterfaceId.Malformed", "eni"),
            Self::NetworkInterfaceAttachment => {
                ("InvalidNetworkInterfaceAttachmentId.Malformed", "eni-attach")
            }
            Self::RouteTable => ("InvalidRouteTableId.Malformed", "rtb"),
            Self::SecurityGroup => ("InvalidGroupId.Malformed", "sg"),
            Self::SecurityGroupRule => ("InvalidSecurityGroupRuleId.Malformed", "sgr"),
            Self::Snapshot => ("InvalidSnapshotID.Malformed", "snap"),
            Self::Subnet => ("InvalidSubnetID.Malformed", "subnet"),
            Self::Volume | Self::VolumeModification => ("InvalidVolumeID.Malformed", "vol"),
            Self::Vpc => ("InvalidVpcID.Malformed", "vpc"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ec2_wraps_a_refusal_in_errors() {
        let refusal = Error::not_found(Resource::Instance, "i-1");
        let written = refusal.to_xml(Service::Ec2, "r-1");
        assert_eq!(
            written,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error>\
             <Code>InvalidInstanceID.NotFound</Code><Message>The instance ID 'i-1' does not exist</Message>\
             </Error></Errors><RequestID>r-1</RequestID></Response>"
        );
        assert_eq!(Error::from_xml(400, &written), Ok((refusal, "r-1".to_owned())));
    }

    #[test]
    fn sentences_are_ec2s() {
        for (error, code, message) in [
            (
                Error::not_found(Resource::Image, "ami-1"),
                "InvalidAMIID.NotFound",
                "The image id '[ami-1]' does not exist",
            ),
            (
                Error::none_found(Resource::Instance, &["i-1", "i-2"]),
                "InvalidInstanceID.NotFound",
                "The instance IDs 'i-1, i-2' do not exist",
            ),
            (
                Error::malformed_id(Resource::SecurityGroup, "web"),
                "InvalidGroupId.Malformed",
                "Invalid id: \"web\" (expecting \"sg-...\")",
            ),
            (
                Error::already_exists(Resource::SecurityGroup, "web"),
                "InvalidGroup.Duplicate",
                "The security group 'web' already exists",
            ),
        ] {
            assert_eq!((error.code(), error.message(), error.status()), (code, message, 400));
        }
    }

    #[test]
    fn sts_says_whose_fault_it_is() {
        let refusal = Error::internal_error();
        let written = refusal.to_xml(Service::Sts, "r-2");
        assert_eq!(
            written,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Receiver</Type>\
             <Code>InternalError</Code><Message>An internal error has occurred</Message></Error>\
             <RequestId>r-2</RequestId></ErrorResponse>"
        );
        assert_eq!(Error::from_xml(500, &written), Ok((refusal, "r-2".to_owned())));
    }

    #[test]
    fn what_is_no_refusal_is_not_read_as_one() {
        for body in ["", "<html/>", "<Response><Errors/><RequestID>r</RequestID></Response>", "<Response/>"] {
            assert!(Error::from_xml(400, body).is_err(), "{body}");
        }
    }
}
