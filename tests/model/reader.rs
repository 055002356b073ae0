//! A service that reads a row, and then needs its key.

use crate::actions::Action;
use crate::bounds::Also;
use crate::keys::Material;
use crate::model::{Model, Steps};
use crate::rows::{RowId, Version};
use crate::state::State;
use crate::variants::Variant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reader {
    NotBegun,
    /// It has the stored text, and not yet the key.
    Read(RowId, Version),
    Ended,
}

pub(crate) fn steps(model: &Model, state: &State, steps: &mut Steps) {
    if !model.bounds.lets(Also::Reader) {
        return;
    }
    match state.reader {
        Reader::NotBegun => {
            for id in RowId::all() {
                if let Some(version) = state.row(id).committed {
                    steps.add(Action::ReaderReads(id, version), state, |next| {
                        next.reader = Reader::Read(id, version);
                    });
                }
            }
        }
        Reader::Read(_, version) if state.keys.get(version.key).material == Material::Sound => {
            steps.add(Action::ReaderOpens, state, |next| next.reader = Reader::Ended);
        }
        // A key that is gone was unused before: by now the row is under another one.
        Reader::Read(id, version) => steps.add(Action::ReaderFindsKeyGone, state, |next| {
            let now = next.row(id).committed.filter(|now| *now != version);
            match (model.variant, now) {
                (Variant::ReadOnce, _) | (_, None) => {
                    next.happened.read_failed = true;
                    next.reader = Reader::Ended;
                }
                (_, Some(now)) => next.reader = Reader::Read(id, now),
            }
        }),
        Reader::Ended => {}
    }
}
