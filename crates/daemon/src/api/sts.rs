//! Who asks.

use ec2::shapes::sts::{GetCallerIdentityRequest, GetCallerIdentityResponse};
use ec2::{Error, Handler};
use guest_services::names;

use super::Api;

impl Handler<GetCallerIdentityRequest> for Api {
    /// There is one pair of keys, the account owner's; so AWS's names for the root user hold.
    async fn handle(&self, request: GetCallerIdentityRequest) -> Result<GetCallerIdentityResponse, Error> {
        let GetCallerIdentityRequest {} = request;
        self.look(|world| {
            let account = world.settings.account.clone();
            Ok(GetCallerIdentityResponse {
                arn: format!("arn:{}:iam::{account}:root", names::partition(&world.settings.region)),
                user_id: account.clone(),
                account,
            })
        })
    }
}
