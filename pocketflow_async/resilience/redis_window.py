"""An exact sliding window that is kept in Redis: the script that decides, and what it says.

All is decided in one script, by the server's clock in whole microseconds, and Redis runs one script
at a time. So it holds over all processes, whatever their clocks say.
"""

from __future__ import annotations

import math
from hashlib import sha1
from typing import Any, Final, NamedTuple

MICRO: Final = 1_000_000

SCRIPT: Final = """
-- KEYS: moments of the calls in the window, in order; tickets of those who wait, in order of their
-- arrival; the same tickets by the moment at which they lapse unless their owner asks again.
-- ARGV: most calls, in so many microseconds; most calls, in fewer; ticket; how long its owner
-- would wait at most (-1: any time); for how long it tells him to wait at most; how late he may be.
local calls, tickets, leases = KEYS[1], KEYS[2], KEYS[3]
local most, span = tonumber(ARGV[1]), tonumber(ARGV[2])
local burst, short = tonumber(ARGV[3]), tonumber(ARGV[4])
local ticket, patience = ARGV[5], tonumber(ARGV[6])
local nap, late = tonumber(ARGV[7]), tonumber(ARGV[8])
local MARGIN = 10000 -- milliseconds by which keys outlive their use

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end
local function moment(index) return tonumber(redis.call('LINDEX', calls, index)) end
local function expire(key, micros)
    redis.call('PEXPIRE', key, text(math.ceil(micros / 1000) + MARGIN))
end

-- The server's clock was set back: what is noted moves with it, so that waits stay as they are.
local newest = moment(-1)
if newest and newest > now then
    local back = newest - now
    local noted = redis.call('LRANGE', calls, 0, -1)
    redis.call('DEL', calls)
    for _, each in ipairs(noted) do redis.call('RPUSH', calls, text(each - back)) end
    expire(calls, span)
    newest = now
    for _, each in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
        redis.call('ZINCRBY', leases, text(-back), each)
    end
end

-- The number of calls up to a moment: they are in order, so half of them need not be looked at.
local function up_to(limit, low, high)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if moment(middle) <= limit then low = middle + 1 else high = middle end
    end
    return low
end

local count = redis.call('LLEN', calls)
if newest and newest <= now - span then
    redis.call('DEL', calls)
    count = 0
elseif newest and moment(0) <= now - span then
    local gone = up_to(now - span, 0, count)
    redis.call('LTRIM', calls, gone, -1)
    count = count - gone
end

local lapsed = redis.call('ZRANGEBYSCORE', leases, '-inf', text(now), 'LIMIT', 0, 1000)
for _, each in ipairs(lapsed) do
    redis.call('ZREM', tickets, each)
    redis.call('ZREM', leases, each)
end

local place = ticket ~= '' and redis.call('ZRANK', tickets, ticket)
local ahead = place or redis.call('ZCARD', tickets)

-- How long until there are fewer than `limit` calls within `length`, once those ahead are through.
local function wait_for(limit, length)
    local index = count + ahead - limit -- of the call that must be out of the window by then
    if index < 0 then return 0 end
    if index < count then return moment(index) + length - now end
    local rounds = math.floor((index - count) / limit) + 1
    index = index - rounds * limit
    if index < 0 then return rounds * length end -- the first of the round goes at once
    return moment(index) + (rounds + 1) * length - now
end

local wait = wait_for(most, span)
if burst < most then wait = math.max(wait, wait_for(burst, short)) end

local function leave()
    if place then
        redis.call('ZREM', tickets, ticket)
        redis.call('ZREM', leases, ticket)
    end
end

if wait <= 0 then
    leave()
    redis.call('RPUSH', calls, text(now))
    expire(calls, span)
    count = count + 1
    local room = most - count
    if burst < most then
        local recent = count - up_to(now - short, math.max(0, count - burst), count)
        room = math.min(room, burst - recent)
    end
    return {1, 0, room, count, now}
end
if patience >= 0 and wait > patience then
    leave()
    return {0, wait, 0, count, now}
end
nap = math.min(wait, nap)
if not place then
    local last = redis.call('ZRANGE', tickets, -1, -1, 'WITHSCORES')
    redis.call('ZADD', tickets, text((last[2] or 0) + 1), ticket)
end
redis.call('ZADD', leases, text(now + nap + late), ticket)
expire(tickets, nap + late)
expire(leases, nap + late)
return {2, nap, 0, count, now}
"""

DIGEST: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""Under which the server keeps the script, once it has seen it."""

ADMITTED, REFUSED, WAITING = 1, 0, 2


class Answer(NamedTuple):
    """What the script has said."""

    state: int
    """ADMITTED, REFUSED or WAITING."""
    wait: float
    """Seconds until there may be room; for WAITING, until it should be asked again."""
    room: int
    """How many more calls could follow at once."""
    calls: int
    """Calls in the window that ends now."""
    at: int
    """The server's time, in microseconds since 1970."""


def answer(said: Any) -> Answer:
    """Return what the server's reply means."""
    state, wait, room, count, at = map(int, said)
    return Answer(state, wait / MICRO, room, count, at)


def micros(seconds: float | None) -> int:
    """Return *seconds* in whole microseconds, no less than those; -1 for None.

    Less than a thousandth of one more is what floats have added.
    """
    return -1 if seconds is None else math.ceil(round(seconds * MICRO, 3))
