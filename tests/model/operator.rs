//! What operators and services do beside a rotation.

use crate::actions::Action;
use crate::bounds::{Also, RowsAtFirst};
use crate::keys::{Drain, KeyState, Material, Scope};
use crate::model::{Model, Steps};
use crate::rotator;
use crate::state::State;
use crate::variants::Variant;

pub(crate) fn steps(model: &Model, state: &State, steps: &mut Steps) {
    destroy(model, state, steps);

    // What asks for work is done while somebody is left to do it.
    let somebody_is_left = model.another_run_may_come(state) || state.lease.is_held();
    if state.due < model.bounds.rotations && state.keys.switches() == state.due && somebody_is_left {
        steps.add(Action::BecomesDue, state, |next| next.due += 1);
    }
    if model.bounds.rows == RowsAtFirst::SecondOfOrganization && !state.keys.have_own() && somebody_is_left {
        own_key(model, state, steps);
    }
    if model.bounds.lets(Also::ServiceStarts)
        && !state.service_started
        && let Some(key) = state.keys.pre_active()
        && state.keys.get(key).material == Material::Sound
    {
        steps.add(Action::ServiceFinishes(key), state, |next| {
            next.service_started = true;
            next.keys.get_mut(key).checked = true;
            rotator::switch(next, key);
        });
    }
}

/// Gives the organization a key of its own: made, committed, read back and checked like any other, which is one step here.
/// It deactivates no key, and is a switch all the same: from then on the organization's rows belong under it.
fn own_key(model: &Model, state: &State, steps: &mut Steps) {
    let mut with_key = *state;
    let key = with_key.keys.insert(Scope::Organization, Material::Sound);
    with_key.keys.get_mut(key).checked = true;
    if model.variant == Variant::OwnKeyNotCaptured {
        with_key.keys.get_mut(key).drain = Drain::Ended;
    }
    steps.add(Action::OwnKey(key), &with_key, |next| rotator::switch(next, key));
}

/// `DELETE FROM vault_key_material`, of a key that is marked unused. The foreign key refuses it while a committed row names
/// the key, and lets it wait for the transactions whose rows do.
fn destroy(model: &Model, state: &State, steps: &mut Steps) {
    for (id, key) in state.keys.iter().filter(|(_, key)| key.state == KeyState::Deactivated) {
        let allowed = match model.variant {
            Variant::StateColumn => state.committed().all(|version| version.key != id),
            _ => key.unused && state.needed_keys().all(|needed| needed != id),
        };
        if allowed {
            steps.add(Action::Destroy(id), state, |next| {
                let key = next.keys.get_mut(id);
                key.state = KeyState::Destroyed;
                key.material = Material::Gone;
            });
        }
    }
}
