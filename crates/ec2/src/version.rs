//! Which service is spoken to, and in which version of its API.
//!
//! One endpoint serves EC2 and the one STS action that every tool begins with. The version that a request names
//! tells them apart, and an answer is in the namespace of the version that was asked for.

use std::fmt;

/// An AWS service whose wire format this crate speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Amazon EC2.
    Ec2,
    /// AWS Security Token Service.
    Sts,
}

impl Service {
    /// Its name in the scope of a signature.
    #[must_use]
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
        }
    }
}

/// A version of a service's API that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    service: Service,
    date: &'static str,
}

/// The versions of EC2 whose shapes are those of today's, newest first.
const EC2: [&str; 8] = [
    "2016-11-15",
    "2016-09-15",
    "2016-04-01",
    "2015-10-01",
    "2015-04-15",
    "2015-03-01",
    "2014-10-01",
    "2014-09-01",
];

impl Version {
    /// EC2's newest, which all clients of today ask for.
    pub const EC2: Self = Self { service: Service::Ec2, date: EC2[0] };
    /// STS's only one.
    pub const STS: Self = Self { service: Service::Sts, date: "2011-06-15" };

    /// The version of that date, if one exists.
    #[must_use]
    pub fn of(date: &str) -> Option<Self> {
        if date == Self::STS.date {
            return Some(Self::STS);
        }
        EC2.iter().find(|known| **known == date).map(|date| Self { service: Service::Ec2, date })
    }

    /// The service whose version it is.
    #[must_use]
    pub const fn service(self) -> Service {
        self.service
    }

    /// The XML namespace of its answers.
    #[must_use]
    pub fn namespace(self) -> String {
        match self.service {
            Service::Ec2 => format!("http://ec2.amazonaws.com/doc/{}/", self.date),
            Service::Sts => format!("https://sts.amazonaws.com/doc/{}/", self.date),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.date)
    }
}
