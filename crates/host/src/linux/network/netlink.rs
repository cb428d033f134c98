//! Links, addresses, routes and neighbours of one namespace, by rtnetlink.
//!
//! `rtnetlink` speaks async; the driver's calls block. So a [`Netlink`] carries a small runtime that turns
//! only while one of its methods runs. Its socket belongs to the namespace of the thread that made it, and
//! reaches that namespace from wherever it is used later.
//!
//! Methods named `put_…` make something be so, however it was before; asking twice changes nothing.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::pin::pin;

use futures_util::stream::{Stream, StreamExt};
use ipnet::Ipv4Net;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourFlags;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    AddressMessageBuilder, Handle, IpVersion, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec,
    LinkVeth, RouteMessageBuilder,
};
use spec::machine::Mac;
use tokio::runtime::Runtime;

use super::messages::{self, Choice, Link, MTU, Route, STATIC};
use crate::linux::sys::netns::Namespace;
use crate::{Error, ErrorKind};

/// A connection to the routing half of a namespace.
pub(super) struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

impl Netlink {
    /// Connects to the namespace of the calling thread.
    pub(super) fn here() -> Result<Self, Error> {
        let failed = |error| Error::passing("Could not open a netlink connection", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let guard = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        drop(guard);
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// Connects to a namespace.
    pub(super) fn inside(namespace: &Namespace) -> Result<Self, Error> {
        super::inside(namespace, Self::here)
    }

    // Links.

    pub(super) fn links(&self) -> Result<Vec<Link>, Error> {
        let links = self.dump(self.handle.link().get().execute());
        Ok(links.map_err(failed("Could not list links"))?.iter().map(Link::from).collect())
    }

    pub(super) fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        match self.dump(self.handle.link().get().match_name(name).execute()) {
            Ok(found) => Ok(found.first().map(Link::from)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(failed(format!("Could not look up link {name}"))(error)),
        }
    }

    /// A link that was just made or must be there.
    pub(super) fn existing(&self, name: &str) -> Result<Link, Error> {
        self.link(name)?.ok_or_else(|| Error::new(ErrorKind::Passing, format!("Link {name} is not there")))
    }

    /// Makes a bridge that does not ask who listens to multicast. Its address is given: it would
    /// otherwise change as ports come and go, and guests would keep the old one.
    pub(super) fn put_bridge(&self, name: &str, mac: Mac) -> Result<Link, Error> {
        let found = self.link(name)?;
        if !found.as_ref().is_some_and(|link| link.is_bridge() && link.mac == Some(mac) && link.mtu == MTU) {
            let bridge =
                LinkBridge::new(name).down().address(mac.0.to_vec()).mtu(MTU).mcast_snooping(false).build();
            let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
            self.ask(self.handle.link().add(bridge).set_flags(flags).execute())
                .map_err(failed(format!("Could not make bridge {name}")))?;
        }
        self.existing(name)
    }

    /// Makes a veth pair: `name` here, `peer` in another namespace, in one go.
    pub(super) fn add_veth(&self, name: &str, peer: &str, peer_in: &Namespace) -> Result<(), Error> {
        let other_end = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .mtu(MTU)
            .setns_by_fd(peer_in.file().as_raw_fd())
            .build();
        let veth =
            LinkVeth::new(name, peer).mtu(MTU).set_info_data(InfoData::Veth(InfoVeth::Peer(other_end)));
        self.ask(self.handle.link().add(veth.build()).execute())
            .map_err(failed(format!("Could not make veth pair {name} and {peer}")))
    }

    pub(super) fn remove_link(&self, link: &Link) -> Result<(), Error> {
        let removed = self.ask(self.handle.link().del(link.index).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove link {}", link.name)))
    }

    pub(super) fn bring_up(&self, link: &Link) -> Result<(), Error> {
        let change = LinkUnspec::new_with_index(link.index).up().build();
        self.change(change, || format!("Could not bring up link {}", link.name))
    }

    pub(super) fn put_alias(&self, link: &Link, alias: &str) -> Result<(), Error> {
        let change = LinkUnspec::new_with_index(link.index).alias(alias).build();
        self.change(change, || format!("Could not leave a mark on link {}", link.name))
    }

    /// Makes a link an isolated port of a bridge. What is sent to an address that nobody has reaches no
    /// port, and a port's address is what we say, not what it sends from.
    pub(super) fn put_port(&self, link: &Link, bridge: &Link) -> Result<(), Error> {
        let what = || format!("Could not attach link {} to bridge {}", link.name, bridge.name);
        let attach = LinkUnspec::new_with_index(link.index).controller(bridge.index).mtu(MTU).build();
        self.change(attach, what)?;
        let port =
            LinkBridgePort::new(link.index).isolated(true).learning(false).flood(false).mcast_flood(false);
        self.change(port.build(), what)
    }

    /// Makes packets go to a link's driver at once, without a queueing discipline before it: a TAP has queues of its own,
    /// and the kernel would make a discipline with its buffers for each of the 256 that one with several may have.
    pub(super) fn put_no_discipline(&self, link: &Link) -> Result<(), Error> {
        let mut message = TcMessage::with_index(i32::try_from(link.index).unwrap_or_default());
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind("noqueue".to_owned()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut handle = self.handle.clone();
        let asked = async {
            let mut answers = pin!(handle.request(request)?);
            while let Some(answer) = answers.next().await {
                if let NetlinkPayload::Error(error) = answer.payload {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
            }
            Ok(())
        };
        match self.ask(asked) {
            // A kernel without disciplines.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            asked => asked.map_err(failed(format!("Could not change the queueing of link {}", link.name))),
        }
    }

    fn change(&self, change: LinkMessage, what: impl FnOnce() -> String) -> Result<(), Error> {
        self.ask(self.handle.link().change(change).execute()).map_err(|error| failed(what())(error))
    }

    // Addresses.

    /// All IPv4 addresses, each with the index of its link.
    pub(super) fn addresses(&self) -> Result<Vec<(u32, Ipv4Net)>, Error> {
        let messages = self.dump(self.handle.address().get().execute());
        Ok(messages
            .map_err(failed("Could not list addresses"))?
            .iter()
            .filter_map(messages::address)
            .collect())
    }

    pub(super) fn put_address(&self, link: &Link, address: Ipv4Net) -> Result<(), Error> {
        let add = self.handle.address().add(link.index, address.addr().into(), address.prefix_len());
        self.ask(add.replace().execute())
            .map_err(failed(format!("Could not give address {address} to link {}", link.name)))
    }

    pub(super) fn remove_address(&self, link: &Link, address: Ipv4Net) -> Result<(), Error> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(link.index)
            .address(address.addr(), address.prefix_len())
            .build();
        let removed = self.ask(self.handle.address().del(message).execute());
        unless_gone(removed)
            .map_err(failed(format!("Could not take address {address} from link {}", link.name)))
    }

    // Routes and the choice between their tables.

    pub(super) fn routes(&self) -> Result<Vec<Route>, Error> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages = self.dump(self.handle.route().get(all).execute());
        Ok(messages.map_err(failed("Could not list routes"))?.iter().filter_map(messages::route).collect())
    }

    pub(super) fn put_route(&self, route: &Route) -> Result<(), Error> {
        self.ask(self.handle.route().add(route.message()).replace().execute())
            .map_err(failed(format!("Could not set the route to {}", route.destination)))
    }

    pub(super) fn remove_route(&self, route: &Route) -> Result<(), Error> {
        let mut message = route.message();
        message.header.scope = RouteScope::NoWhere; // of any scope
        let removed = self.ask(self.handle.route().del(message).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove the route to {}", route.destination)))
    }

    pub(super) fn choices(&self) -> Result<Vec<Choice>, Error> {
        let messages = self.dump(self.handle.rule().get(IpVersion::V4).execute());
        Ok(messages.map_err(failed("Could not list routing rules"))?.iter().map(Choice::from).collect())
    }

    pub(super) fn add_choice(&self, choice: &Choice) -> Result<(), Error> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = choice.message();
        self.ask(request.execute()).map_err(failed(format!("Could not add routing rule {}", choice.priority)))
    }

    pub(super) fn remove_choice(&self, choice: &Choice) -> Result<(), Error> {
        let removed = self.ask(self.handle.rule().del(choice.message()).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove routing rule {}", choice.priority)))
    }

    // Neighbours.

    /// All permanent IPv4 neighbours, each with the index of its link.
    pub(super) fn neighbours(&self) -> Result<Vec<(u32, Ipv4Addr, Mac)>, Error> {
        let get = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let messages = self.dump(get.execute()).map_err(failed("Could not list neighbours"))?;
        Ok(messages.iter().filter_map(messages::neighbour).collect())
    }

    pub(super) fn put_neighbour(&self, link: &Link, address: Ipv4Addr, mac: Mac) -> Result<(), Error> {
        let add = self.handle.neighbours().add(link.index, address.into()).link_layer_address(&mac.0);
        self.ask(add.replace().execute())
            .map_err(failed(format!("Could not make {address} a neighbour on link {}", link.name)))
    }

    pub(super) fn remove_neighbour(&self, link: u32, address: Ipv4Addr) -> Result<(), Error> {
        let message = self.handle.neighbours().add(link, address.into()).message_mut().clone();
        let removed = self.ask(self.handle.neighbours().del(message).execute());
        unless_gone(removed).map_err(failed(format!("Could not remove neighbour {address}")))
    }

    /// The link addresses that are fixed to bridge ports, each with the index of its port.
    pub(super) fn port_addresses(&self) -> Result<Vec<(u32, Mac)>, Error> {
        let get = self.handle.neighbours().get().set_address_family(AddressFamily::Bridge);
        let messages = self.dump(get.execute()).map_err(failed("Could not list the bridges' tables"))?;
        Ok(messages.iter().filter_map(messages::port_address).collect())
    }

    pub(super) fn put_port_address(&self, port: &Link, mac: Mac) -> Result<(), Error> {
        let add = self.handle.neighbours().add_bridge(port.index, &mac.0);
        self.ask(add.state(STATIC).flags(NeighbourFlags::Controller).replace().execute())
            .map_err(failed(format!("Could not fix {mac} to link {}", port.name)))
    }

    pub(super) fn remove_port_address(&self, port: &Link, mac: Mac) -> Result<(), Error> {
        let mut add =
            self.handle.neighbours().add_bridge(port.index, &mac.0).flags(NeighbourFlags::Controller);
        let removed = self.ask(self.handle.neighbours().del(add.message_mut().clone()).execute());
        unless_gone(removed).map_err(failed(format!("Could not take {mac} from link {}", port.name)))
    }

    fn ask(&self, request: impl Future<Output = Result<(), rtnetlink::Error>>) -> io::Result<()> {
        self.runtime.block_on(request).map_err(into_io)
    }

    fn dump<T>(&self, answers: impl Stream<Item = Result<T, rtnetlink::Error>>) -> io::Result<Vec<T>> {
        let answers: Vec<_> = self.runtime.block_on(answers.collect());
        answers.into_iter().map(|answer| answer.map_err(into_io)).collect()
    }
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::passing(what, error)
}

/// What is to be removed and is not there is removed.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
