//! A breadth-first search through all states of a model.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;
use std::hash::{BuildHasherDefault, Hasher};

use crate::actions::Action;
use crate::model::{Model, Steps};
use crate::properties::{Property, Reached, is_through};
use crate::state::State;

/// All states that a model reaches, or those up to the first that breaks a property.
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// Steps to the state that is farthest from the first.
    pub(crate) depth: usize,
    pub(crate) broken: Option<Counterexample>,
    pub(crate) not_reached: Vec<Reached>,
    /// A state from which the rotation can never be through.
    pub(crate) stuck: Option<Vec<Action>>,
}

/// A property that does not hold, and a shortest path to a state in which it does not.
pub(crate) struct Counterexample {
    pub(crate) property: Property,
    pub(crate) path: Vec<Action>,
}

pub(crate) fn told(path: &[Action]) -> String {
    let mut text = String::new();
    for (at, action) in path.iter().enumerate() {
        writeln!(text, "{:>3}. {action}", at + 1).unwrap();
    }
    text
}

/// Tries every interleaving.
pub(crate) fn explore(model: &Model) -> Explored {
    let first = model.first();
    let mut numbers: HashMap<State, u32, BuildHasherDefault<Mix>> = HashMap::default();
    numbers.insert(first, 0);
    // By number: where a state was first reached from, and by which step.
    let mut from: Vec<Option<(u32, Action)>> = vec![None];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut through = vec![is_through(&first)];
    let mut not_reached = Reached::ALL.to_vec();
    let (mut level, mut depth) = (vec![(0, first)], 0);
    let mut steps = Steps::default();
    loop {
        let mut next_level = Vec::new();
        for (number, state) in &level {
            model.steps(state, &mut steps);
            for (action, next) in steps.drain() {
                not_reached.retain(|what| !what.by(state, &action, &next));
                let to = match numbers.entry(next) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let to = from.len() as u32;
                        new.insert(to);
                        from.push(Some((*number, action)));
                        through.push(is_through(&next));
                        if let Some(property) = Property::ALL.into_iter().find(|it| !it.holds(&next)) {
                            let path = path(&from, to);
                            return Explored {
                                states: from.len(),
                                steps: edges.len(),
                                depth: path.len(),
                                broken: Some(Counterexample { property, path }),
                                not_reached,
                                stuck: None,
                            };
                        }
                        next_level.push((to, next));
                        to
                    }
                };
                edges.push((*number, to));
            }
        }
        if next_level.is_empty() {
            break;
        }
        (level, depth) = (next_level, depth + 1);
    }
    let stuck = first_stuck(through, &edges).map(|number| path(&from, number));
    Explored { states: from.len(), steps: edges.len(), depth, broken: None, not_reached, stuck }
}

fn path(from: &[Option<(u32, Action)>], to: u32) -> Vec<Action> {
    let mut path = Vec::new();
    let mut at = to;
    while let Some((before, action)) = from[at as usize] {
        path.push(action);
        at = before;
    }
    path.reverse();
    path
}

/// The first state from which none of the `through` ones can be reached.
fn first_stuck(mut through: Vec<bool>, edges: &[(u32, u32)]) -> Option<u32> {
    // The edges sorted by their end, and where each end's begin.
    let mut begins = vec![0_u32; through.len() + 1];
    for &(_, to) in edges {
        begins[to as usize + 1] += 1;
    }
    for at in 1..begins.len() {
        begins[at] += begins[at - 1];
    }
    let mut free = begins.clone();
    let mut sources = vec![0_u32; edges.len()];
    for &(from, to) in edges {
        sources[free[to as usize] as usize] = from;
        free[to as usize] += 1;
    }
    let mut left: Vec<u32> = (0..through.len() as u32).filter(|&at| through[at as usize]).collect();
    while let Some(at) = left.pop() {
        let range = begins[at as usize] as usize..begins[at as usize + 1] as usize;
        for &source in &sources[range] {
            if !through[source as usize] {
                through[source as usize] = true;
                left.push(source);
            }
        }
    }
    through.iter().position(|through| !through).map(|at| at as u32)
}

/// A hasher that is fast without optimization. States are compared whole: a poor hash costs time, never a state.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u8(byte);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        // The multiplier is that of FxHash.
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
