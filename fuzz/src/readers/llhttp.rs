//! The reading of llhttp, the parser of Node.js, as it comes without any leniency.

use super::{End, Message, Reading};
use std::ffi::{c_char, c_int, c_void};

/// What `llhttp.c` tells; the numbers are those of its `enum event`.
const START: c_int = 0;
const TARGET: c_int = 1;
const HEAD: c_int = 2;
const BODY: c_int = 3;
const END: c_int = 4;

type Tell = extern "C" fn(*mut c_void, c_int, *const c_char, usize);

unsafe extern "C" {
    fn steadfast_llhttp(
        bytes: *const c_char,
        len: usize,
        responses: c_int,
        to_head: c_int,
        tell: Tell,
        context: *mut c_void,
    ) -> c_int;
}

#[derive(Default)]
struct Told {
    messages: Vec<Message>,
    next: Message,
    in_body: bool,
}

/// Requests, one behind the other.
pub fn requests(bytes: &[u8]) -> Reading {
    read(bytes, false, false)
}

/// Responses, each to a request of the same method.
pub fn responses(bytes: &[u8], to_head: bool) -> Reading {
    read(bytes, true, to_head)
}

fn read(bytes: &[u8], responses: bool, to_head: bool) -> Reading {
    let mut told = Told::default();
    let context = (&raw mut told).cast();
    // SAFETY: it reads `bytes` alone, and calls `tell` with this context alone and before it returns.
    let ended = unsafe {
        steadfast_llhttp(bytes.as_ptr().cast(), bytes.len(), responses.into(), to_head.into(), tell, context)
    };
    let end = match ended {
        0 if told.in_body => End::InBody,
        0 => End::InHead,
        1 => End::Refused,
        _ => End::Closed,
    };
    Reading { messages: told.messages, end }
}

extern "C" fn tell(context: *mut c_void, event: c_int, at: *const c_char, len: usize) {
    // SAFETY: `read` has put it there, and nobody else has it meanwhile.
    let told = unsafe { &mut *context.cast::<Told>() };
    // SAFETY: where it is not null, it is a part of the bytes that are read, or of a buffer of `llhttp.c`.
    let bytes = || unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) };
    match event {
        START => told.next.start.extend_from_slice(bytes()),
        TARGET => told.next.target.extend_from_slice(bytes()),
        BODY => told.next.body.extend_from_slice(bytes()),
        HEAD => told.in_body = true,
        END => {
            told.next.end = Some(len);
            told.messages.push(std::mem::take(&mut told.next));
            told.in_body = false;
        }
        _ => unreachable!("there is no such event"),
    }
}
