"""What Redis does at each question about a breaker, in one step, by its own clock.

The same decisions as `breaker_states.Machine`, and the same window as `breaker_window.Window`;
tests let both take the same steps. Times are microseconds. Three keys, in one slot of a cluster:

- the state, a hash;
- the window, a list of `moment calls failures`, the oldest first;
- the probes at work, a sorted set by the moment until which each holds its place.
"""

from __future__ import annotations

from typing import Final

_HEAD: Final = """
local function text(number) return string.format('%.0f', number) end

local threshold, span, span_calls = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local least_calls, rate = tonumber(ARGV[4]), tonumber(ARGV[5])
local reset, places, needed = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lease, keep = tonumber(ARGV[9]), ARGV[10]

local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
local had = redis.call('HMGET', KEYS[1], 'state', 'generation', 'opened', 'failures',
  'successes', 'calls', 'failed', 'latest', 'skew', 'reason')
local is_new = not had[1]
local state = had[1] or 'closed'
-- It begins with the time, so that none comes twice, even if the keys were lost meanwhile.
local generation = tonumber(had[2] or clock)
local opened = tonumber(had[3] or -1)
local failures = tonumber(had[4] or 0)
local successes = tonumber(had[5] or 0)
local calls, failed = tonumber(had[6] or 0), tonumber(had[7] or 0)
local latest, skew = tonumber(had[8] or clock), tonumber(had[9] or 0)
local reason = had[10] or ''
-- Where the clock goes back, no time has passed.
if clock < latest then skew = skew + latest - clock end
local now = clock + skew

local function become(after, why)
  state, reason, successes = after, why, 0
  generation = generation + 1
  calls, failed = 0, 0
  redis.call('DEL', KEYS[2], KEYS[3])
  if after == 'closed' then
    opened, failures = -1, 0
  elseif after ~= 'half_open' then
    opened = now
  end
end

local function look()
  if state == 'open' and now >= opened + reset then
    become('half_open', 'reset_timeout is over')
    return true
  end
  return false
end

local function parts(entry)
  local moment, all, bad = string.match(entry, '(%S+) (%S+) (%S+)')
  return tonumber(moment), tonumber(all), tonumber(bad)
end

local function forget()
  while true do
    local oldest = redis.call('LINDEX', KEYS[2], 0)
    if not oldest then
      calls, failed = 0, 0
      return
    end
    local moment, all, bad = parts(oldest)
    if (span == 0 or moment > now - span) and (span_calls == 0 or calls <= span_calls) then
      return
    end
    redis.call('LPOP', KEYS[2])
    calls, failed = calls - all, failed - bad
  end
end

local function count(bad)
  forget()
  local last = redis.call('LINDEX', KEYS[2], -1)
  local moment, all, had_failed = 0, 0, 0
  if last then moment, all, had_failed = parts(last) end
  if last and span_calls == 0 and (span == 0 or now - moment < span / 1000) then
    redis.call('LSET', KEYS[2], -1,
      text(moment) .. ' ' .. text(all + 1) .. ' ' .. text(had_failed + bad))
  else
    redis.call('RPUSH', KEYS[2], text(now) .. ' 1 ' .. text(bad))
  end
  calls, failed = calls + 1, failed + bad
  forget()
end

local function save()
  redis.call('HSET', KEYS[1], 'state', state, 'generation', text(generation),
    'opened', text(opened), 'failures', text(failures), 'successes', text(successes),
    'calls', text(calls), 'failed', text(failed), 'latest', text(clock), 'skew', text(skew),
    'reason', reason)
  for _, key in ipairs(KEYS) do
    -- What was opened by hand stays open, however long nobody calls.
    if state == 'forced_open' then redis.call('PERSIST', key)
    else redis.call('PEXPIRE', key, keep) end
  end
end

local function answer(granted, probe, has_opened)
  local open_for, counted = -1, failures
  if opened >= 0 then open_for = now - opened end
  if state == 'closed' then counted = failed end
  return {granted, probe, has_opened, state, text(generation), counted, text(open_for), reason}
end
"""

_ADMIT: Final = """
local call = ARGV[11]
local granted, probe = 0, 0
local changed = look() or is_new or clock < latest
if state == 'closed' then
  granted = 1
elseif state == 'half_open' then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', text(now))
  if redis.call('ZCARD', KEYS[3]) < places then
    redis.call('ZADD', KEYS[3], text(now + lease), call)
    granted, probe, changed = 1, 1, true
  end
end
if changed then save() end
return answer(granted, probe, 0)
"""

_RECORD: Final = """
local call, began_in, outcome = ARGV[11], ARGV[12], ARGV[13]
local has_opened = 0
if began_in == text(generation) and not is_new then
  redis.call('ZREM', KEYS[3], call)
  if state == 'closed' and outcome ~= 'nothing' then
    count(outcome == 'failure' and 1 or 0)
    if outcome == 'failure' and failed >= threshold and calls >= least_calls
        and failed >= rate * calls then
      failures = failed
      become('open', 'too many calls failed')
      has_opened = 1
    end
  elseif state == 'half_open' and outcome == 'failure' then
    failures = failures + 1
    become('open', 'a probe failed')
    has_opened = 1
  elseif state == 'half_open' and outcome == 'success' then
    successes = successes + 1
    if successes >= needed then become('closed', 'the probes succeeded') end
  end
end
save()
return answer(0, 0, has_opened)
"""

_COMMAND: Final = """
local command = ARGV[11]
if command == 'force_open' then
  if state ~= 'forced_open' then
    if state == 'closed' then failures = failed end
    become('forced_open', command)
  end
elseif command ~= 'look' then
  become('closed', command)
else
  look()
end
if state == 'closed' then forget() end
save()
return answer(0, 0, 0)
"""

SCRIPTS: Final = {
    "admit": _HEAD + _ADMIT,
    "record": _HEAD + _RECORD,
    "command": _HEAD + _COMMAND,
}
"""The script for each verb. Arguments 1 to 10 are the settings, as `redis_breaker` gives them."""
