//! The balancer's invariants, on examples and on random histories.

use std::collections::HashMap;

use super::*;

const WEB: ListenerId = ListenerId(1);
const ADMIN: ListenerId = ListenerId(2);
const START: Duration = Duration::ZERO;
const ANY: Client = Client(None);

fn balancer(workers: u64) -> Balancer {
    let mut balancer = Balancer::default();
    for n in 1..=workers {
        balancer.join(Run(n), n as u32);
        balancer.serve(WEB, Run(n));
    }
    balancer
}

#[test]
fn idle_workers_take_turns() {
    let mut balancer = balancer(3);
    let mut order = Vec::new();
    for _ in 0..6 {
        let Next::To(run) = balancer.next(WEB, ANY, &[], START) else { panic!("a worker has room") };
        balancer.answered(run, START);
        order.push(run.0);
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn each_listener_has_turns_of_its_own() {
    let mut balancer = balancer(2);
    balancer.serve(ADMIN, Run(1));
    balancer.serve(ADMIN, Run(2));
    for _ in 0..4 {
        for listener in [WEB, ADMIN] {
            let Next::To(run) = balancer.next(listener, ANY, &[], START) else { panic!("a worker has room") };
            balancer.answered(run, START);
        }
    }
    let lasts: Vec<u64> = balancer.serving[&WEB].iter().map(|entry| entry.last_turn).collect();
    assert_eq!(lasts, [5, 7], "each worker had its turn at the web listener");
}

#[test]
fn the_worker_with_the_fewest_unanswered_is_next_up_to_the_window() {
    let mut balancer = balancer(2);
    for _ in 0..2 * WINDOW {
        assert!(matches!(balancer.next(WEB, ANY, &[], START), Next::To(_)));
    }
    assert!(!balancer.has_room(WEB, START));
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::Wait);
    balancer.answered(Run(2), START);
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::To(Run(2)));
}

#[test]
fn a_silent_worker_gets_no_second_connection() {
    let mut balancer = balancer(1);
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::To(Run(1)));
    assert!(balancer.has_room(WEB, MAX_SILENCE));
    let late = MAX_SILENCE * 2;
    assert!(!balancer.has_room(WEB, late));
    assert_eq!(balancer.next(WEB, ANY, &[], late), Next::Wait);
    balancer.answered(Run(1), late);
    assert_eq!(balancer.next(WEB, ANY, &[], late), Next::To(Run(1)));
}

#[test]
fn a_connection_that_all_refuse_differs_from_one_that_may_still_be_taken() {
    let mut balancer = balancer(2);
    assert_eq!(balancer.next(WEB, ANY, &[Run(1), Run(2)], START), Next::AllRefused);
    assert_eq!(balancer.next(WEB, ANY, &[Run(1)], START), Next::To(Run(2)));
    let late = MAX_SILENCE * 2;
    assert_eq!(balancer.next(WEB, ANY, &[Run(1)], late), Next::Wait, "2 is busy, and might take it");
    balancer.leave(Run(2));
    assert_eq!(balancer.next(WEB, ANY, &[Run(1)], late), Next::AllRefused);
    balancer.leave(Run(1));
    assert_eq!(balancer.next(WEB, ANY, &[], late), Next::Wait);
}

#[test]
fn a_new_worker_takes_its_turn_and_no_more() {
    let mut balancer = balancer(2);
    for _ in 0..10 {
        let Next::To(run) = balancer.next(WEB, ANY, &[], START) else { panic!("a worker has room") };
        balancer.answered(run, START);
    }
    balancer.join(Run(3), 3);
    balancer.serve(WEB, Run(3));
    let mut order = Vec::new();
    for _ in 0..6 {
        let Next::To(run) = balancer.next(WEB, ANY, &[], START) else { panic!("a worker has room") };
        balancer.answered(run, START);
        order.push(run.0);
    }
    assert_eq!(order, [3, 1, 2, 3, 1, 2]);
}

/// A pseudo-random generator (xorshift), so that a failure can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What the balancer should know, computed in a slow and simple way.
#[derive(Default)]
struct Truth {
    serving: HashMap<Run, bool>,
    excluded: Vec<Run>,
    unanswered: Vec<Run>,
}

impl Truth {
    fn may_get(&self, run: Run) -> bool {
        self.serving.get(&run) == Some(&true) && !self.excluded.contains(&run)
    }

    fn load(&self, run: Run) -> usize {
        self.unanswered.iter().filter(|r| **r == run).count()
    }
}

fn step(balancer: &mut Balancer, truth: &mut Truth, dice: &mut Dice, now: Duration) {
    let run = Run(dice.roll(6));
    match dice.roll(12) {
        0 => {
            balancer.join(run, run.0 as u32);
            truth.serving.entry(run).or_insert(false);
        }
        1 | 2 if truth.serving.contains_key(&run) => {
            balancer.serve(WEB, run);
            truth.serving.insert(run, true);
        }
        3 => {
            balancer.withdraw(WEB, run);
            truth.serving.entry(run).and_modify(|serves| *serves = false);
        }
        4 if dice.roll(4) == 0 && truth.serving.contains_key(&run) => {
            balancer.exclude(run);
            truth.excluded.push(run);
        }
        5 if dice.roll(2) == 0 => {
            balancer.leave(run);
            truth.serving.remove(&run);
            truth.excluded.retain(|r| *r != run);
            truth.unanswered.retain(|r| *r != run);
        }
        6..=8 if !truth.unanswered.is_empty() => {
            let at = dice.roll(truth.unanswered.len() as u64) as usize;
            balancer.answered(truth.unanswered.swap_remove(at), now);
        }
        _ => choose(balancer, truth, dice, now),
    }
}

fn choose(balancer: &mut Balancer, truth: &mut Truth, dice: &mut Dice, now: Duration) {
    let refused: Vec<Run> = (0..6).map(Run).filter(|_| dice.roll(4) == 0).collect();
    let able: Vec<Run> = truth.serving.keys().copied().filter(|run| truth.may_get(*run)).collect();
    match balancer.next(WEB, ANY, &refused, now) {
        Next::To(run) => {
            assert!(truth.may_get(run), "{run:?} is out of rotation");
            assert!(!refused.contains(&run), "{run:?} had refused it");
            assert!(truth.load(run) < WINDOW as usize);
            let idle = able.iter().any(|r| !refused.contains(r) && truth.load(*r) == 0);
            assert!(!idle || truth.load(run) == 0, "an idle worker was skipped");
            truth.unanswered.push(run);
        }
        Next::AllRefused => assert!(able.iter().all(|run| refused.contains(run))),
        Next::Wait => {
            let idle = able.iter().find(|run| !refused.contains(run) && truth.load(**run) == 0);
            assert_eq!(idle, None, "an idle worker got no connection");
        }
    }
}

#[test]
fn random_histories_keep_the_invariants() {
    for seed in 1..=2000 {
        let (mut balancer, mut truth, mut dice) = (Balancer::default(), Truth::default(), Dice(seed * 0x9E37_79B9));
        for tick in 0..120 {
            step(&mut balancer, &mut truth, &mut dice, Duration::from_micros(tick * 300));
        }
        // When all connections are answered, the turns of the workers differ by one at most, whatever happened before.
        for run in truth.unanswered.drain(..) {
            balancer.answered(run, Duration::from_secs(1));
        }
        let mut counts: HashMap<Run, u32> =
            truth.serving.keys().filter(|run| truth.may_get(**run)).map(|run| (*run, 0)).collect();
        for _ in 0..50 {
            if let Next::To(run) = balancer.next(WEB, ANY, &[], Duration::from_secs(1)) {
                balancer.answered(run, Duration::from_secs(1));
                *counts.get_mut(&run).expect("only those in rotation") += 1;
            }
        }
        let (most, least) = (counts.values().max(), counts.values().min());
        assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "seed {seed}: {counts:?}");
    }
}

fn ruled(balance: Balance, max_connections: Option<u32>, workers: u64) -> Balancer {
    let mut balancer = balancer(workers);
    balancer.set_rules(Rules { balance, max_connections });
    balancer
}

fn client(number: u32) -> Client {
    Client::at(std::net::Ipv4Addr::from_bits(0x0A00_0000 + number).into())
}

/// The worker of each of this many clients.
fn owners(balancer: &mut Balancer, clients: u32) -> Vec<Run> {
    let each = |number| match balancer.next(WEB, client(number), &[], START) {
        Next::To(run) => {
            balancer.answered(run, START);
            run
        }
        other => panic!("{other:?}"),
    };
    (0..clients).map(each).collect()
}

#[test]
fn an_ipv4_address_mapped_to_ipv6_is_the_same_client() {
    let [v4, mapped, other] = ["10.0.0.1", "::ffff:10.0.0.1", "::1"].map(|text| Client::at(text.parse().unwrap()));
    assert!(v4 == mapped && v4 != other);
}

#[test]
fn sticky_clients_keep_their_worker_and_its_successor_inherits_them() {
    let mut balancer = ruled(Balance::Sticky, None, 4);
    let before = owners(&mut balancer, 1000);
    assert_eq!(before, owners(&mut balancer, 1000));
    for run in 1..=4 {
        let count = before.iter().filter(|owner| owner.0 == run).count();
        assert!((200..300).contains(&count), "{run} has {count}");
    }
    // A reload: the successor of 2 joins, and 2 leaves rotation.
    balancer.join(Run(9), 2);
    balancer.serve(WEB, Run(9));
    let inherited: Vec<Run> = before.iter().map(|owner| if owner.0 == 2 { Run(9) } else { *owner }).collect();
    assert_eq!(owners(&mut balancer, 1000), inherited);
    balancer.exclude(Run(2));
    assert_eq!(owners(&mut balancer, 1000), inherited);
}

#[test]
fn scaling_moves_few_sticky_clients() {
    let mut balancer = ruled(Balance::Sticky, None, 4);
    let four = owners(&mut balancer, 1000);
    balancer.join(Run(5), 5);
    balancer.serve(WEB, Run(5));
    let five = owners(&mut balancer, 1000);
    assert!(four.iter().zip(&five).all(|(before, after)| before == after || *after == Run(5)));
    assert!(five.iter().filter(|owner| **owner == Run(5)).count() < 300);
    balancer.leave(Run(5));
    assert_eq!(owners(&mut balancer, 1000), four);
}

#[test]
fn a_sticky_client_waits_for_its_worker_and_one_without_an_address_takes_turns() {
    let mut balancer = ruled(Balance::Sticky, None, 3);
    let owner = owners(&mut balancer, 1)[0];
    for _ in 0..WINDOW {
        assert_eq!(balancer.next(WEB, client(0), &[], START), Next::To(owner));
    }
    assert_eq!(balancer.next(WEB, client(0), &[], START), Next::Wait);
    assert!(matches!(balancer.next(WEB, client(0), &[owner], START), Next::To(other) if other != owner));
    assert!(matches!(balancer.next(WEB, ANY, &[], START), Next::To(other) if other != owner));
}

#[test]
fn balance_least_chooses_the_worker_with_the_fewest_open_connections() {
    let mut balancer = ruled(Balance::Least, None, 3);
    for (run, open) in [(1, 5), (2, 1), (3, 3)] {
        balancer.set_open(Run(run), open);
    }
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::To(Run(2)));
    balancer.answered(Run(2), START);
    balancer.set_open(Run(2), 4);
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::To(Run(3)));
}

#[test]
fn no_worker_has_more_than_max_connections() {
    let mut balancer = ruled(Balance::RoundRobin, Some(2), 2);
    balancer.set_open(Run(1), 2);
    balancer.set_open(Run(2), 1);
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::To(Run(2)));
    assert!(!balancer.has_room(WEB, START));
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::Wait);
    balancer.set_open(Run(1), 0);
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::To(Run(1)));
}

/// Workers of a random history: what each has open, was sent and granted.
#[derive(Clone, Copy)]
struct Player {
    instance: u32,
    open: u32,
    sent: u32,
    credit: u32,
}

#[test]
fn random_histories_respect_credit_limit_and_sticky_owner() {
    for seed in 1..=3000 {
        let mut dice = Dice(seed * 0x9E37_79B9);
        let balance = [Balance::RoundRobin, Balance::Sticky, Balance::Least][dice.roll(3) as usize];
        let most = (dice.roll(2) == 0).then(|| 1 + dice.roll(5) as u32);
        let mut balancer = ruled(balance, most, 0);
        let mut players: HashMap<Run, Player> = HashMap::new();
        for tick in 0..150 {
            let now = Duration::from_micros(tick * 20);
            let run = Run(dice.roll(5));
            match (dice.roll(8), players.get_mut(&run)) {
                (0, None) => {
                    let player =
                        Player { instance: dice.roll(3) as u32, open: 0, sent: 0, credit: dice.roll(20) as u32 };
                    balancer.join(run, player.instance);
                    balancer.set_credit(run, player.credit);
                    balancer.serve(WEB, run);
                    players.insert(run, player);
                }
                (1, Some(_)) if dice.roll(4) == 0 => {
                    balancer.leave(run);
                    players.remove(&run);
                }
                (2 | 3, Some(player)) => {
                    (player.open, player.sent, player.credit) = (player.open + player.sent, 0, dice.roll(20) as u32);
                    (0..20).for_each(|_| balancer.answered(run, now));
                    balancer.set_credit(run, player.credit);
                    balancer.set_open(run, player.open);
                }
                (4, Some(player)) => {
                    player.open = dice.roll(u64::from(player.open) + 1) as u32;
                    balancer.set_open(run, player.open);
                }
                _ => deal(&mut balancer, &mut players, client(dice.roll(50) as u32), now, (balance, most)),
            }
        }
    }
}

fn deal(
    balancer: &mut Balancer,
    players: &mut HashMap<Run, Player>,
    client: Client,
    now: Duration,
    (balance, most): (Balance, Option<u32>),
) {
    let Next::To(run) = balancer.next(WEB, client, &[], now) else { return };
    let chosen = players[&run];
    assert!(chosen.sent < chosen.credit.min(WINDOW_WITH_CREDIT), "more than its credit");
    assert!(most.is_none_or(|most| chosen.open + chosen.sent < most), "more than max_connections");
    if balance == Balance::Sticky {
        let hash = |player: &Player| affinity(client.0.unwrap(), player.instance);
        assert!(players.values().all(|other| hash(other) <= hash(&chosen)), "the client belongs to another worker");
    }
    players.get_mut(&run).unwrap().sent += 1;
}

#[test]
fn an_ejected_worker_gets_what_no_other_can_take() {
    let mut balancer = balancer(2);
    balancer.serve(ADMIN, Run(1));
    balancer.eject(Run(1));
    assert_eq!(balancer.next(ADMIN, ANY, &[], START), Next::To(Run(1)), "it alone listens there");
    let late = MAX_SILENCE * 2;
    assert_eq!(balancer.next(WEB, ANY, &[], START), Next::To(Run(2)));
    assert!(!balancer.has_room(WEB, late));
    assert_eq!(balancer.next(WEB, ANY, &[], late), Next::Wait, "the other is busy, and does not matter");
    balancer.answered(Run(1), late);
    assert_eq!(balancer.next(WEB, ANY, &[Run(2)], late), Next::To(Run(1)), "the other has refused it");
    balancer.exclude(Run(2));
    assert_eq!(balancer.next(WEB, ANY, &[], late), Next::To(Run(1)));
    assert!(balancer.admit(Run(1)) && !balancer.admit(Run(1)));
}
