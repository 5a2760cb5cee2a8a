//! The rota's promises, on examples and on random histories.

use std::collections::HashMap;

use super::*;

const WEB: ListenerId = ListenerId(1);
const ADMIN: ListenerId = ListenerId(2);
const START: Duration = Duration::ZERO;

fn rota(workers: u64) -> Rota {
    let mut rota = Rota::default();
    for n in 1..=workers {
        rota.join(Run(n));
        rota.serve(WEB, Run(n));
    }
    rota
}

#[test]
fn idle_workers_take_turns() {
    let mut rota = rota(3);
    let mut order = Vec::new();
    for _ in 0..6 {
        let Next::To(run) = rota.next(WEB, &[], START) else { panic!("somebody is free") };
        rota.answered(run, START);
        order.push(run.0);
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn turns_are_kept_for_each_listener() {
    let mut rota = rota(2);
    rota.serve(ADMIN, Run(1));
    rota.serve(ADMIN, Run(2));
    for _ in 0..4 {
        for listener in [WEB, ADMIN] {
            let Next::To(run) = rota.next(listener, &[], START) else { panic!("somebody is free") };
            rota.answered(run, START);
        }
    }
    let lasts: Vec<u64> = rota.lists[&WEB].iter().map(|entry| entry.last).collect();
    assert_eq!(lasts, [5, 7], "each worker had its turn at the web listener");
}

#[test]
fn fewest_unanswered_goes_first_and_the_window_ends() {
    let mut rota = rota(2);
    for _ in 0..2 * WINDOW {
        assert!(matches!(rota.next(WEB, &[], START), Next::To(_)));
    }
    assert!(!rota.has_room(WEB, START));
    assert_eq!(rota.next(WEB, &[], START), Next::Wait);
    rota.answered(Run(2), START);
    assert_eq!(rota.next(WEB, &[], START), Next::To(Run(2)));
}

#[test]
fn a_silent_worker_gets_no_second() {
    let mut rota = rota(1);
    assert_eq!(rota.next(WEB, &[], START), Next::To(Run(1)));
    assert!(rota.has_room(WEB, PATIENCE));
    let late = PATIENCE * 2;
    assert!(!rota.has_room(WEB, late));
    assert_eq!(rota.next(WEB, &[], late), Next::Wait);
    rota.answered(Run(1), late);
    assert_eq!(rota.next(WEB, &[], late), Next::To(Run(1)));
}

#[test]
fn one_that_all_turn_down_is_told_from_one_that_may_yet_be_taken() {
    let mut rota = rota(2);
    assert_eq!(rota.next(WEB, &[Run(1), Run(2)], START), Next::AllRefused);
    assert_eq!(rota.next(WEB, &[Run(1)], START), Next::To(Run(2)));
    let late = PATIENCE * 2;
    assert_eq!(rota.next(WEB, &[Run(1)], late), Next::Wait, "2 is busy, and might take it");
    rota.leave(Run(2));
    assert_eq!(rota.next(WEB, &[Run(1)], late), Next::AllRefused);
    rota.leave(Run(1));
    assert_eq!(rota.next(WEB, &[], late), Next::Wait);
}

#[test]
fn a_newcomer_takes_its_turn_but_no_more() {
    let mut rota = rota(2);
    for _ in 0..10 {
        let Next::To(run) = rota.next(WEB, &[], START) else { panic!("somebody is free") };
        rota.answered(run, START);
    }
    rota.join(Run(3));
    rota.serve(WEB, Run(3));
    let mut order = Vec::new();
    for _ in 0..6 {
        let Next::To(run) = rota.next(WEB, &[], START) else { panic!("somebody is free") };
        rota.answered(run, START);
        order.push(run.0);
    }
    assert_eq!(order, [3, 1, 2, 3, 1, 2]);
}

/// A small generator, so that a failure names the seed that shows it again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What the rota ought to know, kept the slow and plain way.
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

fn step(rota: &mut Rota, truth: &mut Truth, dice: &mut Dice, now: Duration) {
    let run = Run(dice.roll(6));
    match dice.roll(12) {
        0 => {
            rota.join(run);
            truth.serving.entry(run).or_insert(false);
        }
        1 | 2 if truth.serving.contains_key(&run) => {
            rota.serve(WEB, run);
            truth.serving.insert(run, true);
        }
        3 => {
            rota.withdraw(WEB, run);
            truth.serving.entry(run).and_modify(|serves| *serves = false);
        }
        4 if dice.roll(4) == 0 && truth.serving.contains_key(&run) => {
            rota.exclude(run);
            truth.excluded.push(run);
        }
        5 if dice.roll(2) == 0 => {
            rota.leave(run);
            truth.serving.remove(&run);
            truth.excluded.retain(|r| *r != run);
            truth.unanswered.retain(|r| *r != run);
        }
        6..=8 if !truth.unanswered.is_empty() => {
            let at = dice.roll(truth.unanswered.len() as u64) as usize;
            rota.answered(truth.unanswered.swap_remove(at), now);
        }
        _ => choose(rota, truth, dice, now),
    }
}

fn choose(rota: &mut Rota, truth: &mut Truth, dice: &mut Dice, now: Duration) {
    let refused: Vec<Run> = (0..6).map(Run).filter(|_| dice.roll(4) == 0).collect();
    let able: Vec<Run> = truth.serving.keys().copied().filter(|run| truth.may_get(*run)).collect();
    match rota.next(WEB, &refused, now) {
        Next::To(run) => {
            assert!(truth.may_get(run), "{run:?} is out of rotation");
            assert!(!refused.contains(&run), "{run:?} had refused it");
            assert!(truth.load(run) < WINDOW as usize);
            let idle = able.iter().any(|r| !refused.contains(r) && truth.load(*r) == 0);
            assert!(!idle || truth.load(run) == 0, "an idle worker was passed over");
            truth.unanswered.push(run);
        }
        Next::AllRefused => assert!(able.iter().all(|run| refused.contains(run))),
        Next::Wait => {
            let idle = able.iter().find(|run| !refused.contains(run) && truth.load(**run) == 0);
            assert_eq!(idle, None, "an idle worker was left without");
        }
    }
}

#[test]
fn random_histories_keep_the_promises() {
    for seed in 1..=2000 {
        let (mut rota, mut truth, mut dice) = (Rota::default(), Truth::default(), Dice(seed * 0x9E37_79B9));
        for tick in 0..120 {
            step(&mut rota, &mut truth, &mut dice, Duration::from_micros(tick * 300));
        }
        // Whatever happened before: once all is answered, the turns are even to within one.
        for run in truth.unanswered.drain(..) {
            rota.answered(run, Duration::from_secs(1));
        }
        let mut counts: HashMap<Run, u32> =
            truth.serving.keys().filter(|run| truth.may_get(**run)).map(|run| (*run, 0)).collect();
        for _ in 0..50 {
            if let Next::To(run) = rota.next(WEB, &[], Duration::from_secs(1)) {
                rota.answered(run, Duration::from_secs(1));
                *counts.get_mut(&run).expect("only those in rotation") += 1;
            }
        }
        let (most, least) = (counts.values().max(), counts.values().min());
        assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "seed {seed}: {counts:?}");
    }
}
