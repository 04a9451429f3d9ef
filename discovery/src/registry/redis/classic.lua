-- Writes and removes names of the classic layout. A key is ours if its value is the one that our ledger has for it.
--
-- KEYS   the ledger: a hash of what we have written, by name
-- ARGV   time to live in ms, whether the pairs are everything (1 or 0), number of pairs, then the pairs of name and
--        value, then the names to remove
-- Returns the names that something else has written: they stay as they are.
local ledger, ttl, whole, pairs_end = KEYS[1], tonumber(ARGV[1]), ARGV[2] == '1', 3 + 2 * tonumber(ARGV[3])

-- The value of a key; true if it is not a string.
local function value_of(name)
    local kind = redis.call('TYPE', name).ok
    return kind == 'string' and redis.call('GET', name) or kind ~= 'none'
end

local function remove(name)
    if value_of(name) == redis.call('HGET', ledger, name) then
        redis.call('DEL', name)
    end
    redis.call('HDEL', ledger, name)
end

local held, wanted = {}, {}
for at = 4, pairs_end, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    local current = value_of(name)
    wanted[name] = true
    if not current or current == value or current == redis.call('HGET', ledger, name) then
        redis.call('SET', name, value, 'PX', ttl)
        redis.call('HSET', ledger, name, value)
    else
        held[#held + 1] = name
        redis.call('HDEL', ledger, name)
    end
end
for at = pairs_end + 1, #ARGV do
    remove(ARGV[at])
end
if whole then
    for _, name in ipairs(redis.call('HKEYS', ledger)) do
        if not wanted[name] then
            remove(name)
        end
    end
end
redis.call('PEXPIRE', ledger, ttl)
return held
