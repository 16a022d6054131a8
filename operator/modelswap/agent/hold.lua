-- Keeps requests waiting while the map says so. The deadline is in the map: whatever becomes of the control program,
-- a hold ends by itself.
local MAP = os.getenv("MODELSWAP_STATE_MAP")
local MAX_HELD = 512
local POLL_MS = 2

local state = Map.new(MAP, Map._str)
local id, held, total, longest_ms = "", 0, 0, 0

local function deadline() return tonumber(state:lookup("hold") or "0") or 0 end

local function now_ms()
  local now = core.now()
  return now.sec * 1000 + math.floor(now.usec / 1000)
end

core.register_action("hold", {"http-req"}, function(txn)
  local current = state:lookup("id") or ""
  if current ~= id then id, total, longest_ms = current, 0, 0 end
  if held >= MAX_HELD then
    txn:set_var("txn.shed", "1")
    return
  end
  held, total = held + 1, total + 1
  local began = now_ms()
  while true do
    local limit = deadline()
    if limit == 0 or now_ms() > limit then break end
    core.msleep(POLL_MS)
  end
  held = held - 1
  if current == id then longest_ms = math.max(longest_ms, now_ms() - began) end
end)

core.register_cli({"show", "modelswap"}, "show modelswap: what the hold has done", function(applet)
  applet:send(string.format("%s %d %d %d\n", id == "" and "-" or id, held, total, longest_ms))
end)
