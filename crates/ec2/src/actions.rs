//! THE table of actions, and all that follows from it: decoding, dispatch, the reference page.
//!
//! To add an action: its shapes in `shapes/<family>.rs`, one line in the table below, and the handler that the
//! compiler then asks for. What a server does with a request, in order:
//!
//! ```text
//! Parameters::parse(query string, body)     bounded, nothing judged yet
//! sign::verify(…)                           who asks? over the raw request, before anything is obeyed
//! Call::decode(parameters)                  a typed request; unknown, missing, unsupported parameters end here
//! call.answer(&handlers, request id).await  the handler of that one action, then its answer as XML
//! ```

mod reference;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use reference::reference;

use crate::query::{self, Parameters, Unobeyed};
use crate::shapes::common::Done;
use crate::shapes::{
    addresses, dhcp_options, images, instance_attributes, instance_types, instances, internet_gateways,
    key_pairs, network_acls, network_interfaces, regions, route_tables, security_groups, sts, subnets, tags,
    volumes, vpcs,
};
use crate::version::{Service, Version};
use crate::xml::{self, XmlError};
use crate::{Error, Unsayable};

/// A request type, and what belongs to it. The table implements it.
pub trait Action: Serialize + DeserializeOwned + Send {
    /// What a successful answer holds.
    type Response: Serialize + DeserializeOwned + Send;
    /// The action's line in the table.
    const ABOUT: About;
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The value of the parameter `Action`.
    pub name: &'static str,
    /// The service that defines it.
    pub service: Service,
    /// The family of Amazon's reference it stands in, which is also the name of the file of its shapes.
    pub family: &'static str,
    /// What it does, as a sentence without its full stop.
    pub summary: &'static str,
    /// Parameters that EC2 knows for it and that are not obeyed yet.
    pub unobeyed: &'static [Unobeyed],
}

/// Carries out one action. A server implements it once for every request type; see [`Handlers`].
///
/// Implement it with `async fn handle`, on whatever knows the caller and the world. Take the request apart field
/// by field, without `..`, so that no parameter can be accepted and ignored.
pub trait Handler<A: Action> {
    /// Does what `request` asks, or says why not.
    fn handle(&self, request: A) -> impl Future<Output = Result<A::Response, Error>> + Send;
}

macro_rules! actions {
    ($($service:ident { $($family:ident {
        $($name:ident($request:ty) -> $response:ty, $summary:literal $(, unobeyed $unobeyed:expr)?;)*
    })* })*) => {
        /// A typed request for any action of the table.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {$($($(
            #[doc = concat!($summary, ".")]
            $name(Box<$request>),
        )*)*)*}

        $($($(
            impl Action for $request {
                type Response = $response;
                const ABOUT: About = About {
                    name: stringify!($name),
                    service: Service::$service,
                    family: stringify!($family),
                    summary: $summary,
                    unobeyed: actions!(@unobeyed $($unobeyed)?),
                };
            }
        )*)*)*

        /// Whoever handles every action of the table. An action without a handler does not compile:
        ///
        /// ```compile_fail,E0277
        /// struct Api;
        /// impl ec2::Handler<ec2::shapes::sts::GetCallerIdentityRequest> for Api {
        ///     async fn handle(
        ///         &self,
        ///         _: ec2::shapes::sts::GetCallerIdentityRequest,
        ///     ) -> Result<ec2::shapes::sts::GetCallerIdentityResponse, ec2::Error> {
        ///         Ok(Default::default())
        ///     }
        /// }
        /// fn serve(_: &impl ec2::Handlers) {}
        /// serve(&Api);
        /// ```
        pub trait Handlers: Sync $($($(+ Handler<$request>)*)*)* {}
        impl<T: Sync $($($(+ Handler<$request>)*)*)*> Handlers for T {}

        impl Request {
            /// The line of the table for this request.
            #[must_use]
            pub fn about(&self) -> &'static About {
                match self {$($($(Self::$name(_) => const { &<$request as Action>::ABOUT },)*)*)*}
            }

            fn decode(service: Service, action: &str, parameters: Parameters) -> Result<Self, Error> {
                match (service, action) {
                    $($($((Service::$service, stringify!($name)) => {
                        let request = query::decode(parameters, <$request as Action>::ABOUT.unobeyed)?;
                        Ok(Self::$name(Box::new(request)))
                    })*)*)*
                    _ => Err(Error::invalid_action(action)),
                }
            }

            async fn answer(
                self,
                handlers: &impl Handlers,
                version: Version,
                request_id: &str,
            ) -> Result<String, Error> {
                match self {$($($(
                    Self::$name(request) => answered::<$request>(handlers, *request, version, request_id).await,
                )*)*)*}
            }
        }

        /// Calls `visitor` with the type of every request of the table, in its order.
        pub fn visit(visitor: &mut impl Visitor) {
            $($($(visitor.visit::<$request>();)*)*)*
        }
    };
    (@unobeyed) => { &[] };
    (@unobeyed $unobeyed:expr) => { $unobeyed };
}

/// Something to do for every action of the table, such as describing or testing it.
pub trait Visitor {
    /// Called once for each request type.
    fn visit<A: Action>(&mut self);
}

actions! {
    Ec2 {
        instances {
            RunInstances(instances::RunInstancesRequest) -> instances::Reservation,
                "Launches instances from an image", unobeyed instances::RUN_INSTANCES;
            DescribeInstances(instances::DescribeInstancesRequest) -> instances::DescribeInstancesResponse,
                "Describes instances", unobeyed instances::DESCRIBE_INSTANCES;
            DescribeInstanceStatus(instances::DescribeInstanceStatusRequest)
                -> instances::DescribeInstanceStatusResponse,
                "Describes the health of instances", unobeyed instances::DESCRIBE_INSTANCE_STATUS;
            StartInstances(instances::StartInstancesRequest) -> instances::InstanceStateChanges,
                "Starts stopped instances", unobeyed instances::START_INSTANCES;
            StopInstances(instances::StopInstancesRequest) -> instances::InstanceStateChanges,
                "Stops instances, keeping their volumes and private addresses",
                unobeyed instances::STOP_INSTANCES;
            RebootInstances(instances::RebootInstancesRequest) -> Done,
                "Reboots running instances";
            TerminateInstances(instances::TerminateInstancesRequest) -> instances::InstanceStateChanges,
                "Ends instances for good", unobeyed instances::TERMINATE_INSTANCES;
            GetConsoleOutput(instances::GetConsoleOutputRequest) -> instances::GetConsoleOutputResponse,
                "Shows what an instance's serial port said last", unobeyed instances::GET_CONSOLE_OUTPUT;
        }
        instance_attributes {
            DescribeInstanceAttribute(instance_attributes::DescribeInstanceAttributeRequest)
                -> instance_attributes::DescribeInstanceAttributeResponse,
                "Describes one attribute of an instance";
            ModifyInstanceAttribute(instance_attributes::ModifyInstanceAttributeRequest) -> Done,
                "Changes one attribute of an instance",
                unobeyed instance_attributes::MODIFY_INSTANCE_ATTRIBUTE;
            ModifyInstanceMetadataOptions(instance_attributes::ModifyInstanceMetadataOptionsRequest)
                -> instance_attributes::ModifyInstanceMetadataOptionsResponse,
                "Changes how an instance's metadata service answers, from the next question on",
                unobeyed instance_attributes::MODIFY_INSTANCE_METADATA_OPTIONS;
            DescribeInstanceCreditSpecifications(
                instance_attributes::DescribeInstanceCreditSpecificationsRequest
            ) -> instance_attributes::DescribeInstanceCreditSpecificationsResponse,
                "Describes how burstable instances use CPU credits: all are unlimited";
        }
        images {
            DescribeImages(images::DescribeImagesRequest) -> images::DescribeImagesResponse,
                "Describes images", unobeyed images::DESCRIBE_IMAGES;
            RegisterImage(images::RegisterImageRequest) -> images::RegisterImageResponse,
                "Registers an image made of snapshots", unobeyed images::REGISTER_IMAGE;
            DeregisterImage(images::DeregisterImageRequest) -> Done,
                "Withdraws an image; instances launched from it stay", unobeyed images::DEREGISTER_IMAGE;
        }
        instance_types {
            DescribeInstanceTypes(instance_types::DescribeInstanceTypesRequest)
                -> instance_types::DescribeInstanceTypesResponse,
                "Describes instance types", unobeyed instance_types::DESCRIBE_INSTANCE_TYPES;
            DescribeInstanceTypeOfferings(instance_types::DescribeInstanceTypeOfferingsRequest)
                -> instance_types::DescribeInstanceTypeOfferingsResponse,
                "Describes where instance types are offered";
        }
        key_pairs {
            CreateKeyPair(key_pairs::CreateKeyPairRequest) -> key_pairs::CreateKeyPairResponse,
                "Makes a key pair and shows its private key once", unobeyed key_pairs::CREATE_KEY_PAIR;
            ImportKeyPair(key_pairs::ImportKeyPairRequest) -> key_pairs::ImportKeyPairResponse,
                "Keeps a public key under a name";
            DeleteKeyPair(key_pairs::DeleteKeyPairRequest) -> key_pairs::DeleteKeyPairResponse,
                "Forgets a key pair";
            DescribeKeyPairs(key_pairs::DescribeKeyPairsRequest) -> key_pairs::DescribeKeyPairsResponse,
                "Describes key pairs";
        }
        volumes {
            DescribeVolumes(volumes::DescribeVolumesRequest) -> volumes::DescribeVolumesResponse,
                "Describes volumes", unobeyed volumes::DESCRIBE_VOLUMES;
            CreateVolume(volumes::CreateVolumeRequest) -> volumes::Volume,
                "Makes an empty volume", unobeyed volumes::CREATE_VOLUME;
            DeleteVolume(volumes::DeleteVolumeRequest) -> Done,
                "Deletes a volume that is attached nowhere, and its data";
            AttachVolume(volumes::AttachVolumeRequest) -> volumes::VolumeAttachment,
                "Gives a volume to an instance: to a running one at once, to a stopped one for its next start",
                unobeyed volumes::ATTACH_VOLUME;
            DetachVolume(volumes::DetachVolumeRequest) -> volumes::VolumeAttachment,
                "Takes a volume from its instance, whose guest is asked unless it is forced";
            ModifyVolume(volumes::ModifyVolumeRequest) -> volumes::ModifyVolumeResponse,
                "Makes a volume larger or of another type, also while its guest uses it",
                unobeyed volumes::MODIFY_VOLUME;
            DescribeVolumesModifications(volumes::DescribeVolumesModificationsRequest)
                -> volumes::DescribeVolumesModificationsResponse,
                "Describes the last change of each volume", unobeyed volumes::DESCRIBE_VOLUMES_MODIFICATIONS;
            DescribeVolumeStatus(volumes::DescribeVolumeStatusRequest) -> volumes::DescribeVolumeStatusResponse,
                "Describes the health of volumes", unobeyed volumes::DESCRIBE_VOLUME_STATUS;
            DescribeVolumeAttribute(volumes::DescribeVolumeAttributeRequest)
                -> volumes::DescribeVolumeAttributeResponse,
                "Describes one attribute of a volume";
            ModifyVolumeAttribute(volumes::ModifyVolumeAttributeRequest) -> Done,
                "Changes one attribute of a volume", unobeyed volumes::MODIFY_VOLUME_ATTRIBUTE;
        }
        vpcs {
            DescribeVpcs(vpcs::DescribeVpcsRequest) -> vpcs::DescribeVpcsResponse,
                "Describes VPCs";
            DescribeVpcAttribute(vpcs::DescribeVpcAttributeRequest) -> vpcs::DescribeVpcAttributeResponse,
                "Describes one attribute of a VPC";
        }
        subnets {
            DescribeSubnets(subnets::DescribeSubnetsRequest) -> subnets::DescribeSubnetsResponse,
                "Describes subnets";
        }
        route_tables {
            DescribeRouteTables(route_tables::DescribeRouteTablesRequest)
                -> route_tables::DescribeRouteTablesResponse,
                "Describes route tables";
        }
        internet_gateways {
            DescribeInternetGateways(internet_gateways::DescribeInternetGatewaysRequest)
                -> internet_gateways::DescribeInternetGatewaysResponse,
                "Describes internet gateways";
        }
        network_interfaces {
            DescribeNetworkInterfaces(network_interfaces::DescribeNetworkInterfacesRequest)
                -> network_interfaces::DescribeNetworkInterfacesResponse,
                "Describes network interfaces", unobeyed network_interfaces::DESCRIBE_NETWORK_INTERFACES;
            DescribeNetworkInterfaceAttribute(network_interfaces::DescribeNetworkInterfaceAttributeRequest)
                -> network_interfaces::DescribeNetworkInterfaceAttributeResponse,
                "Describes one attribute of a network interface";
            CreateNetworkInterface(network_interfaces::CreateNetworkInterfaceRequest)
                -> network_interfaces::CreateNetworkInterfaceResponse,
                "Makes a network interface in a subnet", unobeyed network_interfaces::CREATE_NETWORK_INTERFACE;
            DeleteNetworkInterface(network_interfaces::DeleteNetworkInterfaceRequest) -> Done,
                "Deletes a network interface that is attached nowhere";
            AttachNetworkInterface(network_interfaces::AttachNetworkInterfaceRequest)
                -> network_interfaces::AttachNetworkInterfaceResponse,
                "Gives a network interface to an instance: to a running one at once, to a stopped one for its next start",
                unobeyed network_interfaces::ATTACH_NETWORK_INTERFACE;
            DetachNetworkInterface(network_interfaces::DetachNetworkInterfaceRequest) -> Done,
                "Takes a network interface from its instance, whose guest is asked unless it is forced";
            ModifyNetworkInterfaceAttribute(network_interfaces::ModifyNetworkInterfaceAttributeRequest) -> Done,
                "Changes one attribute of a network interface",
                unobeyed network_interfaces::MODIFY_NETWORK_INTERFACE_ATTRIBUTE;
        }
        network_acls {
            DescribeNetworkAcls(network_acls::DescribeNetworkAclsRequest)
                -> network_acls::DescribeNetworkAclsResponse,
                "Describes network ACLs";
        }
        dhcp_options {
            DescribeDhcpOptions(dhcp_options::DescribeDhcpOptionsRequest)
                -> dhcp_options::DescribeDhcpOptionsResponse,
                "Describes sets of DHCP options";
        }
        addresses {
            DescribeAddresses(addresses::DescribeAddressesRequest) -> addresses::DescribeAddressesResponse,
                "Describes elastic addresses";
        }
        security_groups {
            CreateSecurityGroup(security_groups::CreateSecurityGroupRequest)
                -> security_groups::CreateSecurityGroupResponse,
                "Makes a security group that lets everything out and nothing in";
            DeleteSecurityGroup(security_groups::DeleteSecurityGroupRequest)
                -> security_groups::DeleteSecurityGroupResponse,
                "Deletes a security group that nothing uses";
            DescribeSecurityGroups(security_groups::DescribeSecurityGroupsRequest)
                -> security_groups::DescribeSecurityGroupsResponse,
                "Describes security groups";
            DescribeSecurityGroupRules(security_groups::DescribeSecurityGroupRulesRequest)
                -> security_groups::DescribeSecurityGroupRulesResponse,
                "Describes rules of security groups";
            AuthorizeSecurityGroupIngress(security_groups::AuthorizeSecurityGroupIngressRequest)
                -> security_groups::AuthorizeSecurityGroupResponse,
                "Lets traffic in", unobeyed security_groups::INGRESS;
            AuthorizeSecurityGroupEgress(security_groups::AuthorizeSecurityGroupEgressRequest)
                -> security_groups::AuthorizeSecurityGroupResponse,
                "Lets traffic out", unobeyed security_groups::EGRESS;
            RevokeSecurityGroupIngress(security_groups::RevokeSecurityGroupIngressRequest)
                -> security_groups::RevokeSecurityGroupResponse,
                "Lets traffic in no longer", unobeyed security_groups::INGRESS;
            RevokeSecurityGroupEgress(security_groups::RevokeSecurityGroupEgressRequest)
                -> security_groups::RevokeSecurityGroupResponse,
                "Lets traffic out no longer", unobeyed security_groups::EGRESS;
        }
        tags {
            CreateTags(tags::CreateTagsRequest) -> Done, "Puts tags on resources";
            DeleteTags(tags::DeleteTagsRequest) -> Done, "Takes tags from resources";
            DescribeTags(tags::DescribeTagsRequest) -> tags::DescribeTagsResponse, "Describes tags";
        }
        regions {
            DescribeRegions(regions::DescribeRegionsRequest) -> regions::DescribeRegionsResponse,
                "Describes regions", unobeyed regions::DESCRIBE_REGIONS;
            DescribeAvailabilityZones(regions::DescribeAvailabilityZonesRequest)
                -> regions::DescribeAvailabilityZonesResponse,
                "Describes zones of the region", unobeyed regions::DESCRIBE_AVAILABILITY_ZONES;
            DescribeAccountAttributes(regions::DescribeAccountAttributesRequest)
                -> regions::DescribeAccountAttributesResponse,
                "Describes what the account may do";
        }
    }
    Sts {
        sts {
            GetCallerIdentity(sts::GetCallerIdentityRequest) -> sts::GetCallerIdentityResponse,
                "Tells the caller who they are";
        }
    }
}

/// A request and what every request may say beside its own parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The version of the API that was asked, and so the service.
    pub version: Version,
    /// Whether to check everything and do nothing. The server answers [`Error::dry_run_operation`] instead of
    /// success.
    pub dry_run: bool,
    /// What is asked.
    pub request: Request,
}

/// Parameters by which a request is signed; they are [`sign::verify`](crate::sign::verify)'s business.
const AUTHENTICATION: [&str; 14] = [
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "AWSAccessKeyId",
    "Expires",
    "Signature",
    "SignatureMethod",
    "SignatureVersion",
    "Timestamp",
];

/// The service that a request is for, as far as it says: what decides the shape of a refusal.
#[must_use]
pub fn service_of(parameters: &Parameters) -> Service {
    parameters.get("Version").and_then(Version::of).map_or(Service::Ec2, Version::service)
}

impl Call {
    /// Makes a typed call of all parameters of a request.
    ///
    /// # Errors
    /// What EC2 answers: `MissingAction`, `NoSuchVersion`, `InvalidAction`, `UnknownParameter`, `MissingParameter`,
    /// `InvalidParameterValue`, `UnsupportedOperation` and a few rarer ones.
    pub fn decode(mut parameters: Parameters) -> Result<Self, Error> {
        for name in AUTHENTICATION {
            parameters.take(name);
        }
        let action = parameters.take("Action").ok_or_else(|| {
            Error::new(400, "MissingAction", "The request is missing an action: the parameter Action.")
        })?;
        let date = parameters.take("Version").ok_or_else(|| Error::missing_parameter("Version"))?;
        let version = Version::of(&date).ok_or_else(|| Error::no_such_version(&date))?;
        let dry_run = match (version.service(), parameters.take("DryRun")) {
            (_, None) => false,
            (Service::Sts, Some(_)) => return Err(query::QueryError::Unknown("DryRun".into()).into()),
            (Service::Ec2, Some(text)) if text.eq_ignore_ascii_case("true") => true,
            (Service::Ec2, Some(text)) if text.eq_ignore_ascii_case("false") => false,
            (Service::Ec2, Some(text)) => {
                return Err(Error::invalid_parameter_value("DryRun", &text, "Expected true or false."));
            }
        };
        let request = Request::decode(version.service(), &action, parameters)?;
        Ok(Self { version, dry_run, request })
    }

    /// Has the action carried out and writes the answer as XML. Whether it is only tried out is for the handlers
    /// to know: give it to them when you make them.
    ///
    /// # Errors
    /// What the handler refuses with.
    pub async fn answer(self, handlers: &impl Handlers, request_id: &str) -> Result<String, Error> {
        self.request.answer(handlers, self.version, request_id).await
    }
}

async fn answered<A: Action>(
    handler: &impl Handler<A>,
    request: A,
    version: Version,
    request_id: &str,
) -> Result<String, Error> {
    let response = handler.handle(request).await?;
    // A response that cannot be written is a fault of this crate, which its tests over the whole table exclude.
    write_response::<A>(&response, version, request_id).map_err(|_| Error::internal_error())
}

/// The XML document of an action's answer.
///
/// # Errors
/// [`Unsayable`] where the response type holds something that EC2's XML has no form for; none of this crate does.
pub fn write_response<A: Action>(
    response: &A::Response,
    version: Version,
    request_id: &str,
) -> Result<String, Unsayable> {
    let About { name, service, .. } = A::ABOUT;
    let content = match service {
        Service::Ec2 => xml::text_element("requestId", request_id) + &xml::elements(response)?,
        Service::Sts => {
            let metadata = xml::text_element("RequestId", request_id);
            let result = xml::element(&format!("{name}Result"), response)?;
            format!("{result}<ResponseMetadata>{metadata}</ResponseMetadata>")
        }
    };
    Ok(xml::document(&format!("{name}Response"), Some(&version.namespace()), &content))
}

/// Reads an action's answer back.
///
/// # Errors
/// [`XmlError`] when the document is not that action's answer.
pub fn read_response<A: Action>(document: &str) -> Result<A::Response, XmlError> {
    let About { name, service, .. } = A::ABOUT;
    let document = xml::Document::parse(document)?;
    if document.root_name() != format!("{name}Response") {
        return Err(XmlError::Missing(format!("{name}Response")));
    }
    match service {
        Service::Ec2 => document.read(),
        Service::Sts => document.read_child(&format!("{name}Result")),
    }
}

/// The form-urlencoded body that asks for an action.
///
/// # Errors
/// [`Unsayable`] where the request type holds something the protocol has no form for; none of this crate does.
pub fn write_request<A: Action>(request: &A, dry_run: bool) -> Result<String, Unsayable> {
    let version = match A::ABOUT.service {
        Service::Ec2 => Version::EC2.to_string(),
        Service::Sts => Version::STS.to_string(),
    };
    let parameters = query::encode(request)?;
    let common = [("Action", A::ABOUT.name), ("Version", version.as_str())];
    let dry_run = dry_run.then_some(("DryRun", "true"));
    let own = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Ok(query::form(common.into_iter().chain(dry_run).chain(own)))
}
