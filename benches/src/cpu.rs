//! CPU time of a process, from the scheduler's own account of each of its threads.

use std::fs;
use std::time::Duration;

/// Time on a CPU of all threads of `process` that live now.
///
/// # Errors
///
/// The process is gone, or this is no Linux.
pub fn spent(process: u32) -> std::io::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let account = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = account.split_whitespace().next().unwrap_or("0");
        nanoseconds += first.parse::<u64>().unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}
