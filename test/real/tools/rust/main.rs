//! Says who the AWS SDK for Rust takes itself for, by the profile of its environment.
use std::process::ExitCode;

use aws_sdk_sts::error::DisplayErrorContext;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // STS speaks in clear here.
    let http = aws_smithy_http_client::Builder::new().build_http();
    let settings = aws_config::from_env().http_client(http).load().await;
    match aws_sdk_sts::Client::new(&settings).get_caller_identity().send().await {
        Ok(who) => {
            println!("{}", who.arn().unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", DisplayErrorContext(error));
            ExitCode::FAILURE
        }
    }
}
