//! What this crate knows and does, as JSON lines, for comparison with Amazon's own model of the API.
//!
//! `tests/clients/model_check.py` runs it and holds the result against botocore.
//!
//! ```text
//! model describe             one line per action: its parameters, its answer's elements, samples of both
//! model decode < bodies      one line per form-urlencoded body: the typed request, or the refusal
//! model verify < requests    one line per HTTP request as JSON: who signed it, or the refusal
//! ```

use std::error::Error;
use std::io::{self, BufRead};

use ec2::actions::{About, Action, Visitor, visit, write_request, write_response};
use ec2::query::{Accepts, Parameters};
use ec2::sign::{HttpRequest, Payload, Secret, verify};
use ec2::specimen::{Full, Kind, Parameter, fill, parameters};
use ec2::{Service, Timestamp, Version};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    match std::env::args().nth(1).as_deref() {
        Some("describe") => visit(&mut Describe),
        Some("decode") => each_line(decode)?,
        Some("verify") => each_line(check_signature)?,
        _ => return Err("say describe, decode or verify".into()),
    }
    Ok(())
}

fn each_line(work: impl Fn(&str) -> Outcome<Value>) -> Outcome<()> {
    for line in io::stdin().lock().lines() {
        println!("{}", work(&line?)?);
    }
    Ok(())
}

struct Describe;

impl Visitor for Describe {
    fn visit<A: Action>(&mut self) {
        println!("{}", describe::<A>().unwrap_or_else(|problem| panic!("{}: {problem}", A::ABOUT.name)));
    }
}

fn describe<A: Action>() -> Outcome<Value> {
    let About { name, service, unobeyed, .. } = A::ABOUT;
    let version = if service == Service::Sts { Version::STS } else { Version::EC2 };
    let request: A = fill(&mut Full).ok_or("no sample of the request")?;
    let response = fill(&mut Full).ok_or("no sample of the response")?;
    let unobeyed: Vec<_> = unobeyed.iter().map(|entry| json!([entry.name, accepts(entry.accepts)])).collect();
    Ok(json!({
        "action": name,
        "service": service.signing_name(),
        "obeyed": parameters::<A>().iter().map(field).collect::<Vec<_>>(),
        "unobeyed": unobeyed,
        "answered": parameters::<A::Response>().iter().map(field).collect::<Vec<_>>(),
        "request": write_request(&request, false)?,
        "response": write_response::<A>(&response, version, "request-1")?,
        "refusal": ec2::Error::missing_parameter("Some<Thing>").to_xml(service, "request-1"),
    }))
}

fn accepts(accepts: Accepts) -> Value {
    match accepts {
        Accepts::Nothing => json!(null),
        Accepts::Only(default) => json!({ "only": default }),
        Accepts::Anything(reason) => json!({ "anything": reason }),
        Accepts::Partly(what) => json!({ "partly": what }),
    }
}

fn field(parameter: &Parameter) -> Value {
    let kind = match parameter.kind {
        Kind::Text => json!("string"),
        Kind::Boolean => json!("boolean"),
        Kind::Integer => json!("integer"),
        Kind::Number => json!("double"),
        Kind::Bytes => json!("blob"),
        Kind::Time => json!("timestamp"),
        Kind::OneOf(words) => json!(words),
    };
    json!({ "name": parameter.name, "kind": kind, "required": parameter.required })
}

fn refusal(error: &ec2::Error) -> Value {
    json!({ "status": error.status(), "code": error.code(), "message": error.message() })
}

/// A visitor that decodes the action it is looking for.
struct Decode {
    action: String,
    parameters: Parameters,
    outcome: Option<Value>,
}

impl Visitor for Decode {
    fn visit<A: Action>(&mut self) {
        if A::ABOUT.name == self.action {
            let decoded = ec2::query::decode::<A>(self.parameters.clone(), A::ABOUT.unobeyed);
            self.outcome = Some(match decoded {
                Ok(request) => json!({ "request": serde_json::to_value(request).unwrap_or_default() }),
                Err(problem) => refusal(&problem.into()),
            });
        }
    }
}

fn decode(body: &str) -> Outcome<Value> {
    let mut parameters = Parameters::parse(&[body.as_bytes()])?;
    let action = parameters.take("Action").ok_or("no action")?;
    parameters.take("Version");
    let mut decode = Decode { action, parameters, outcome: None };
    visit(&mut decode);
    Ok(decode.outcome.ok_or("no such action")?)
}

/// The one key whose owner is known here.
const KEY: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");

fn check_signature(line: &str) -> Outcome<Value> {
    let sent: Value = serde_json::from_str(line)?;
    let text = |name: &str| sent[name].as_str().ok_or_else(|| format!("no {name}"));
    let headers: Vec<(&str, &str)> = sent["headers"]
        .as_object()
        .ok_or("no headers")?
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    let request = HttpRequest {
        method: text("method")?,
        path: text("path")?,
        query: text("query")?,
        headers: &headers,
        payload: Payload::Bytes(text("body")?.as_bytes()),
    };
    let service = if text("service")? == "sts" { Service::Sts } else { Service::Ec2 };
    let now = Timestamp::parse(text("now")?)?;
    let find =
        |id: &str, token: Option<&str>| (id == KEY.0).then(|| (Secret::new(KEY.1), token.map(str::to_owned)));
    Ok(match verify(&request, service, text("region")?, now, find) {
        Ok(verified) => json!({
            "access_key_id": verified.access_key_id,
            "token": verified.identity,
            "presigned": verified.presigned,
        }),
        Err(problem) => refusal(&problem.answer(service)),
    })
}
