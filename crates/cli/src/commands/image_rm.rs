//! `cumulet image rm`: removes images.

use ec2::shapes::images::DeregisterImageRequest;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::note;

const EXAMPLES: &str = "\
Example:
  cumulet image rm tiny";

/// Which images.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Ids or names
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes one after the other, until one is refused.
pub(crate) async fn run(arguments: &Arguments, client: &Client) -> Result<(), Failure> {
    for named in &arguments.images {
        let image_id = client.image(named).await?.image_id;
        client.call(&DeregisterImageRequest { image_id: image_id.clone() }).await?;
        note(&format!("Removed {image_id}"));
    }
    Ok(())
}
