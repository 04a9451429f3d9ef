-- Removes the records of a node, if they are ours.
--
-- KEYS   the nodes, the records of this node
-- ARGV   name, instance, channel, notice
local own = KEYS[2]
if redis.call('TYPE', own).ok == 'hash' and redis.call('HGET', own, 'instance') == ARGV[2] then
    redis.call('DEL', own)
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return 1
