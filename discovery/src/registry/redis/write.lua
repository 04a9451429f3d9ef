-- Writes what has changed in the records of a node, or all of them, and prolongs its lease.
--
-- KEYS   the nodes, the records of this node
-- ARGV   name, instance, mode, lease in ms, channel, notice, revision before, revision, JSON of the node,
--        number of pairs, then the pairs of field and value, then the fields to remove
-- mode   keep: only what has changed; claim: everything, if no other process has the node; take: everything
-- Returns 1; 0 if everything has to be written; -1 if another process has the node.
local nodes, own = KEYS[1], KEYS[2]
local name, instance, mode, lease, channel, notice = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local before, revision, node, pairs_end = ARGV[7], ARGV[8], ARGV[9], 10 + 2 * tonumber(ARGV[10])

local kind = redis.call('TYPE', own).ok
local holder = kind == 'hash' and redis.call('HGET', own, 'instance')
if holder and holder ~= instance and mode ~= 'take' then
    return -1
end
if mode ~= 'keep' then
    redis.call('DEL', own)
elseif not holder or redis.call('HGET', own, 'revision') ~= before then
    return 0
end

for at = 11, pairs_end, 2 do
    redis.call('HSET', own, ARGV[at], ARGV[at + 1])
end
for at = pairs_end + 1, #ARGV do
    redis.call('HDEL', own, ARGV[at])
end
redis.call('HSET', own, 'node', node, 'instance', instance, 'revision', revision, 'lease', lease)
redis.call('PEXPIRE', own, lease)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', nodes, '-inf', now)
redis.call('ZADD', nodes, now + lease, name)
if redis.call('PTTL', nodes) < lease then
    redis.call('PEXPIRE', nodes, lease)
end
redis.call('PUBLISH', channel, notice)
return 1
