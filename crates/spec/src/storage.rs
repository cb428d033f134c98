//! What should be of storage: volumes, and the images that volumes begin as.

use serde::{Deserialize, Serialize};

use crate::ids::{ImageId, VolumeId};

/// A volume, as it should be when it is made. Afterwards its contents are the guest's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Volume {
    /// Which volume.
    pub id: VolumeId,
    /// Its size in bytes, a multiple of 1 GiB.
    pub bytes: u64,
    /// What it begins as: an image's root disk, or zeros.
    pub base: Option<ImageId>,
}

/// What was learned of an image when it was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// The disk's size in bytes, as a guest would see it.
    pub bytes: u64,
    /// The processor it is for, as read from its kernel.
    pub architecture: Architecture,
    /// The kernel's release, where its file says it, for people: `6.1.0-31-cloud-amd64`.
    pub kernel: Option<String>,
}

/// A processor architecture, by EC2's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[serde(rename = "arm64")]
    Arm64,
}

impl Architecture {
    /// The architecture this program was built for; machines of another do not run on it.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 };

    /// EC2's name: `x86_64` or `arm64`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}
