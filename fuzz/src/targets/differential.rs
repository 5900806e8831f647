//! Requests: where we take a message, nobody may take another one; and what we pass on everybody takes for the same.

use super::super::{
    input::Input,
    readers::{End, Message, hyper, ours, strict},
};
use control::spec::{ForwardMode, Forwarding};

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = if input.byte() & 1 == 0 { ForwardMode::Append } else { ForwardMode::Off };
    let forwarding = Forwarding { x_forwarded_for: mode, forwarded: mode, ..Forwarding::default() };
    let passed = ours::requests(input.rest(), &forwarding);
    let readers = |bytes: &[u8]| {
        vec![
            ("a strict reader", strict::requests(bytes)),
            ("hyper", hyper::requests(bytes)),
            #[cfg(feature = "llhttp")]
            ("llhttp", super::super::readers::llhttp::requests(bytes)),
        ]
    };
    for (who, reading) in readers(input.rest()) {
        passed.came.assert_agrees(&reading, who);
    }
    let went = super::super::readers::Reading { messages: passed.went, end: End::InHead };
    for (who, reading) in readers(&passed.sent) {
        went.assert_same(&reading, who, |message| may_refuse(who, message));
    }
}

/// What the other reader takes for no request though its end is clear to it.
fn may_refuse(who: &str, message: &Message) -> bool {
    match who {
        // Its own type for targets takes not all that a URI may be in practice.
        "hyper" => http::Uri::try_from(message.target.as_slice()).is_err(),
        // It has a list of methods, and one of characters that a target may have.
        "llhttp" => !LLHTTP_METHODS.contains(&message.start.as_slice()),
        _ => false,
    }
}

/// Those of its methods of HTTP that say nothing about who speaks next.
const LLHTTP_METHODS: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"];
