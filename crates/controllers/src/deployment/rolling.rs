//! How far each ReplicaSet goes up or down in one pass (upstream rolling.go, recreate.go and `scale` of sync.go).

use client::kinds::apps::v1::{Deployment, ReplicaSet};

use super::rollout::{Rollout, available, by_size, is_rolling, limits, max_annotation, replicas, size};

/// The size the new set may have now (`NewRSNewReplicas`).
pub fn new_size(rollout: &Rollout) -> i32 {
    let total = replicas(rollout.deployment);
    if !is_rolling(rollout.deployment) {
        return total;
    }
    let current = rollout.new.as_ref().map_or(0, size);
    let room = total + limits(rollout.deployment).0 - rollout.total_size();
    if room <= 0 { current } else { current + room.min(total - current) }
}

/// One step of a rolling update. The new set is there.
pub fn step(rollout: &mut Rollout) {
    let total = replicas(rollout.deployment);
    let current = rollout.new.as_ref().map_or(0, size);
    let scaled = match current.cmp(&total) {
        std::cmp::Ordering::Equal => false,
        std::cmp::Ordering::Greater => rollout.scale_new(total),
        std::cmp::Ordering::Less => {
            let to = new_size(rollout);
            rollout.scale_new(to)
        }
    };
    if !scaled {
        shrink_old(rollout);
    }
}

/// Takes from the old sets what may go: unhealthy replicas first, then healthy ones as far as maxUnavailable allows.
fn shrink_old(rollout: &mut Rollout) {
    let deployment = rollout.deployment;
    if rollout.old.iter().map(size).sum::<i32>() == 0 {
        return;
    }
    let min_available = replicas(deployment) - limits(deployment).1;
    let new_unavailable = rollout.new.as_ref().map_or(0, |new| size(new) - available(new));
    let mut budget = rollout.total_size() - min_available - new_unavailable;
    if budget <= 0 {
        return;
    }
    for set in rollout.old.iter_mut().filter(|set| size(set) > 0) {
        let unhealthy = (size(set) - available(set)).clamp(0, budget);
        budget -= unhealthy;
        Rollout::scale(deployment, set, size(set) - unhealthy, false);
    }
    let mut surplus = rollout.all().map(available).sum::<i32>() - min_available;
    for set in rollout.old.iter_mut().filter(|set| size(set) > 0) {
        if surplus <= 0 {
            break;
        }
        let down = size(set).min(surplus);
        surplus -= down;
        Rollout::scale(deployment, set, size(set) - down, false);
    }
}

/// Follows a changed spec.replicas, in proportion to the sets' sizes, without moving the rollout on.
pub fn scale(rollout: &mut Rollout) {
    let deployment = rollout.deployment;
    let total = replicas(deployment);
    let active = rollout.all().filter(|set| size(set) > 0).count();
    if active == 1 {
        for set in rollout.active_mut() {
            Rollout::scale(deployment, set, total, false);
        }
        return;
    }
    if active == 0 {
        if let Some(latest) = rollout.new.as_mut().or(rollout.old.last_mut()) {
            Rollout::scale(deployment, latest, total, false);
        }
        return;
    }
    if rollout.new.as_ref().is_some_and(|new| is_saturated(new, total)) {
        for old in &mut rollout.old {
            Rollout::scale(deployment, old, 0, false);
        }
    } else if is_rolling(deployment) {
        scale_in_proportion(rollout);
    }
}

fn is_saturated(new: &ReplicaSet, total: i32) -> bool {
    size(new) == total && super::rollout::desired_annotation(new) == Some(total) && available(new) == total
}

fn scale_in_proportion(rollout: &mut Rollout) {
    let deployment = rollout.deployment;
    let total = replicas(deployment);
    let allowed = if total > 0 { total + limits(deployment).0 } else { 0 };
    let to_add = allowed - rollout.total_size();
    let mut sets = rollout.active_mut();
    by_size(&mut sets, to_add > 0);
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in &sets {
        let share = proportion(set, deployment, to_add, added);
        added += share;
        sizes.push(size(set) + share);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + to_add - added).max(0);
    }
    for (set, to) in sets.into_iter().zip(sizes) {
        Rollout::scale(deployment, set, to, true);
    }
}

/// One set's share of what is added or removed (`GetReplicaSetProportion`).
fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let left = to_add - added;
    let fraction = fraction(set, deployment);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    let total = replicas(deployment);
    if total == 0 {
        return -size(set);
    }
    let status = deployment.status.as_ref().and_then(|status| status.replicas);
    let before = max_annotation(set).or(status).filter(|before| *before > 0).unwrap_or(1);
    let new_size = f64::from(size(set)) * f64::from(total + limits(deployment).0) / f64::from(before);
    new_size.round() as i32 - size(set)
}
