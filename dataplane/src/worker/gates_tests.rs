use super::{Command, Inbox, Mailbox, Queue, gates::Gates};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

const LIMIT: u32 = 2;
const POOL: u32 = 9;

fn gates() -> (Gates, Vec<Inbox>) {
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..2).map(|_| Mailbox::new().unwrap()).unzip();
    (Gates::new(mailboxes.into_iter().map(Arc::new).collect()), inboxes)
}

/// What a worker was told: tickets with the backends that have room for them.
fn told(inbox: &Inbox) -> Vec<(u64, u32)> {
    let room = |command| if let Command::Room { ticket, slot } = command { Some((ticket, slot)) } else { None };
    inbox.commands.waiting().filter_map(room).collect()
}

#[test]
fn room_is_counted_and_passed_on_in_the_order_of_coming() {
    let (gates, inboxes) = gates();
    assert!(gates.try_enter(1, LIMIT) && gates.try_enter(1, LIMIT) && !gates.try_enter(1, LIMIT));
    assert!(gates.is_full(1, LIMIT) && !gates.is_full(2, LIMIT));
    let join = |queue, worker| gates.join(queue, worker, 10).unwrap().number;
    let (first, second) = (join(Queue::Backend(1), 1), join(Queue::Pool(POOL), 0));
    let third = join(Queue::Backend(1), 0);
    gates.leave(1, POOL, LIMIT, || true);
    assert_eq!(told(&inboxes[1]), [(first, 1)]);
    assert!(!gates.has_room(1, LIMIT), "the room is the next one's already");
    gates.leave(1, POOL, LIMIT, || true);
    gates.leave(1, POOL, LIMIT, || true);
    assert_eq!(told(&inboxes[0]), [(second, 1), (third, 1)]);
    assert!(!gates.has_room(1, LIMIT));
    gates.leave(1, POOL, LIMIT, || true);
    assert!(gates.has_room(1, LIMIT) && !gates.is_full(1, LIMIT));
    assert!(inboxes.iter().all(|inbox| told(inbox).is_empty()));
}

#[test]
fn a_backend_that_takes_nothing_new_serves_its_own_queue_alone() {
    let (gates, inboxes) = gates();
    assert!(gates.try_enter(1, 1));
    gates.join(Queue::Pool(POOL), 0, 10).unwrap();
    let own = gates.join(Queue::Backend(1), 0, 10).unwrap();
    gates.leave(1, POOL, 1, || false);
    gates.leave(1, POOL, 1, || false);
    assert_eq!(told(&inboxes[0]), [(own.number, 1)]);
    assert_eq!((gates.queued(Queue::Pool(POOL)), gates.queued(Queue::Backend(1))), (1, 0));
}

#[test]
fn queues_are_bounded_and_places_can_be_given_up_once() {
    let (gates, _inboxes) = gates();
    let queue = Queue::Backend(1);
    let tickets: Vec<_> = (0..3).map(|_| gates.join(queue, 0, 3).unwrap()).collect();
    assert_eq!(gates.join(queue, 0, 3), None);
    assert!(gates.give_up(queue, tickets[1]) && !gates.give_up(queue, tickets[1]));
    assert_eq!(gates.queued(queue), 2);
    assert!(gates.join(queue, 0, 3).is_some());
}

#[test]
fn room_beyond_the_limit_is_not_passed_on_before_it_is_within() {
    let (gates, inboxes) = gates();
    assert!(gates.try_enter(1, 1));
    gates.force(1);
    let waits = gates.join(Queue::Backend(1), 0, 10).unwrap();
    gates.leave(1, POOL, 1, || true);
    assert!(told(&inboxes[0]).is_empty());
    gates.leave(1, POOL, 1, || true);
    assert_eq!(told(&inboxes[0]), [(waits.number, 1)]);
}

#[test]
fn room_for_a_worker_that_has_ended_goes_to_the_next() {
    let (gates, mut inboxes) = gates();
    assert!(gates.try_enter(1, 1));
    gates.join(Queue::Backend(1), 1, 10).unwrap();
    let next = gates.join(Queue::Backend(1), 0, 10).unwrap();
    inboxes.truncate(1);
    gates.leave(1, POOL, 1, || true);
    assert_eq!(told(&inboxes[0]), [(next.number, 1)]);
}

/// Threads that enter, wait and leave at random: never more inside than may be, and nobody waits for ever.
#[test]
fn many_threads_never_exceed_the_limit_and_all_come_in() {
    const THREADS: usize = 4;
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| Mailbox::new().unwrap()).unzip();
    let gates = Gates::new(mailboxes.into_iter().map(Arc::new).collect());
    let inside = AtomicU32::new(0);
    let serve = || {
        assert!(inside.fetch_add(1, SeqCst) < LIMIT);
        inside.fetch_sub(1, SeqCst);
        gates.leave(1, POOL, LIMIT, || true);
    };
    std::thread::scope(|scope| {
        for (worker, inbox) in inboxes.iter().enumerate() {
            let (gates, serve) = (&gates, &serve);
            scope.spawn(move || {
                for _ in 0..2_000 {
                    if !gates.is_full(1, LIMIT) && gates.try_enter(1, LIMIT) {
                        serve();
                        continue;
                    }
                    let ticket = gates.join(Queue::Backend(1), worker, 100).unwrap();
                    loop {
                        if told(inbox).iter().any(|(number, _)| *number == ticket.number) {
                            break serve();
                        }
                        if gates.try_enter(1, LIMIT) {
                            if !gates.give_up(Queue::Backend(1), ticket) {
                                // Both came: one of them goes on to the next.
                                while told(inbox).is_empty() {
                                    std::thread::yield_now();
                                }
                                gates.leave(1, POOL, LIMIT, || true);
                            }
                            break serve();
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!(gates.queued(Queue::Backend(1)), 0);
    assert!(gates.has_room(1, 1), "nobody is inside");
}
