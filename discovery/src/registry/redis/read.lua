-- Returns the records of a node.
--
-- KEYS   the records of this node
-- ARGV   the number of records and the bytes of each at most
-- Returns nothing if there are none; else the time to live and the lease in ms, instance, revision, JSON of the
-- node, the number of records that were left out, then pairs of field and value. The value of a record that is too long is empty.
local own, count_max, bytes_max = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
if redis.call('TYPE', own).ok ~= 'hash' then
    return {}
end
local meta = redis.call('HMGET', own, 'lease', 'instance', 'revision', 'node')
local out = {tostring(redis.call('PTTL', own)), meta[1] or '', meta[2] or '', meta[3] or '', meta[4] or '', '0'}
local all, count = redis.call('HGETALL', own), 0
for at = 1, #all, 2 do
    local field, value = all[at], all[at + 1]
    if string.find(field, '/', 1, true) then
        count = count + 1
        if count <= count_max then
            out[#out + 1] = field
            out[#out + 1] = #value <= bytes_max and value or ''
        end
    end
end
out[6] = tostring(math.max(0, count - count_max))
return out
