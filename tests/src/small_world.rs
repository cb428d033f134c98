//! The smallest cloud that a test of rules, plans or the API needs: settings, an image, a launch, and chance that is the
//! same every time.

use std::collections::BTreeSet;

use cloud::first_start::first_start;
use cloud::model::{MetadataOptions, ShutdownBehavior, Tags};
use cloud::rules::images::{self, NewImage};
use cloud::rules::launch::Launch;
use cloud::{Refusal, Settings, Tx};
use spec::ids::ImageId;
use spec::storage::{Architecture, ImageFacts};

/// The usual settings of a cloud on x86_64, wherever the test runs.
pub fn settings() -> Settings {
    Settings { architecture: Architecture::X86_64, ..Settings::default() }
}

/// Makes a cloud's first start, and an image in it.
pub fn first_image(tx: &mut Tx<'_>) -> Result<ImageId, Refusal> {
    first_start(tx);
    let new = NewImage { name: "tiny".into(), description: String::new(), tags: Tags::new() };
    let id = images::begin_import(tx, new)?;
    let facts = ImageFacts { bytes: 1 << 28, architecture: Architecture::X86_64, kernel: None };
    images::finish_import(tx, id, &facts)?;
    Ok(id)
}

/// A launch of one small instance that says nothing else.
pub fn launch(image: ImageId) -> Launch {
    Launch {
        image,
        instance_type: Some("t3.nano".into()),
        least: 1,
        most: 1,
        key_name: None,
        groups: BTreeSet::new(),
        group_names: BTreeSet::new(),
        subnet: None,
        zone: None,
        address: None,
        public: None,
        interface_description: String::new(),
        keep_interface: false,
        user_data: None,
        volumes: Vec::new(),
        instance_tags: Tags::new(),
        volume_tags: Tags::new(),
        interface_tags: Tags::new(),
        client_token: None,
        shutdown_behavior: ShutdownBehavior::Stop,
        termination_protection: false,
        stop_protection: false,
        hibernation: false,
        metadata: MetadataOptions { enabled: true, tokens_required: false, hop_limit: 2, tags: false },
    }
}

/// Pseudo-random numbers (SplitMix64), the same every time.
pub fn chance(seed: &mut u64) -> impl FnMut() -> u64 + '_ {
    || {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
