"""Word lists for synthetic documents: plain, common English in the roles the phrase patterns need.

The words only have to be common and varied. A model that relies on them too much is held back by the other
half of the data, whose text cannot be guessed (see text.py).
"""

from __future__ import annotations


def listed(text: str) -> list[str]:
    """The words of `text` as a list: quieter to read and to extend than a list of quoted words."""
    return text.split()


NOUNS = listed("""
account action address advice afternoon age agency agreement air airport album animal answer apartment apple
area arm army art article aunt author autumn baby back badge bag baker balance ball band bank basket bath
battery beach beard bed bedroom bell bench bicycle bill bird birthday blanket blood board boat body bone
book border boss bottle bottom bowl box boy brain branch bread break breakfast bridge brother brush bucket
budget builder building bus business butter button cabin cake camera camp canal candle captain car card care
carpet case castle cat cause ceiling centre century chain chair chance change chapter cheese chef chicken
child choice church circle city class clerk client climate clock cloth cloud club coach coast coat coffee
coin college colour company concert contract cook copy corner cost cottage country couple course court
cousin cover cow cream credit crew crop cross crowd culture cup curtain customer dance danger daughter dawn
day deal debt decade degree delivery dentist desert design desk detail diary dinner direction discount
distance doctor document dog dollar door dream dress drink driver duck dust ear earth east edge editor egg
energy engine entry envelope error estate evening event evidence exam example exit expert eye fabric face
fact factory family farm farmer fashion father fence festival field figure film finger fire fish flag flat
flight floor flower food foot forest fork form fortune frame freedom friend fruit fuel future game garage
garden gate gift girl glass glove goal gold government grain grass group growth guard guest guide guitar
habit hair hall hammer hand harbour hat head health heart heat height help hill history hobby holiday home
honey hope horse hospital hotel hour house idea income industry ink insect interest invoice iron island item
jacket job joke journal journey judge juice kettle key king kitchen knee knife ladder lady lake lamp land
language law lawyer leader leaf leather lemon lesson letter level library licence life light line lion list
lock lunch machine magazine mail manager map market mask match meal meat medicine meeting member memory menu
message metal method milk mill mind minute mirror model moment money month moon morning mother motor
mountain mouse mouth museum music nail name nation nature neck needle neighbour nerve nest network news
night noise north nose note notice number nurse oak object ocean office oil onion opera option orange order
organ owner package page paint pair palace pan paper parcel parent park partner party passage path payment
peace pear pen pencil people pepper period person phone photo piano picture piece pilot pipe place plan
plane planet plant plate platform player pocket poem point police pond post potato pound powder power
present president price prince prison prize problem process product profit project proof public pump pupil
quality quarter queen question queue radio rail rain range rate reader reason receipt record region report
rest result rice ring river road rock roof room root rope rose route rule sail salad salary salt sand scale
scene school science screen script sea season seat second secret section seed series service shade shape
sheep sheet shelf shell ship shirt shoe shop shore shoulder shower side sign signal silk silver singer
sister size skill skin sky sleep smile smoke snow soap society sock soil soldier son song sound soup source
south space speech speed spoon sport spring square staff stage stair stamp star station steam steel step
stick stock stone store storm story stranger street student studio style subject sugar summer sun supper
surface surprise sweater system table tail tailor talk task taste tax tea teacher team tent test theatre
theory ticket tide tiger time title tomato tool tooth tour tower town toy track trade traffic train travel
tree trial trip trouble truck truth tunnel uncle union unit valley value vegetable vehicle village visit
voice volume voyage wage walk wall war watch water wave way weather wedding week weight west wheel wind
window wine winter wire witness wood wool word work worker world writer yard year youth zone
""")

ADJECTIVES = listed("""
able absent active afraid alone ancient angry annual ashamed average aware bad bare beautiful best better
big bitter black blind blue bold brave brief bright broad broken brown busy calm careful certain cheap clean
clear clever closed cold common complete cool correct crazy cruel daily dark dead deaf dear deep different
direct dirty double dry due early eastern easy empty equal exact extra fair faithful false famous far fast
fat final fine firm first flat foreign free fresh friendly full funny general gentle glad golden good grand
great green grey half happy hard heavy high hollow honest hot huge human ideal ill jolly junior just keen
key kind large last late lazy left legal light likely little local lonely long loose lost loud low lucky
main major mental mild modern monthly narrow nasty natural near neat new next nice noisy normal northern odd
official old only open orange ordinary other own pale past perfect plain pleasant polite poor popular
present pretty private proper proud public pure quick quiet rapid rare raw ready real recent red regular
rich right ripe rough round royal rude rural sad safe secret senior sharp short silent silly simple single
slow small smart smooth social soft solid sorry sour southern special steady steep strange strict strong
sudden sweet tall thick thin tidy tight tiny tired total tough true ugly unknown upper urban useful usual
vague valid vast violent visible warm weak wealthy weekly western wet white whole wide wild wise wooden
wrong yellow young
""")

VERBS = listed("""
accept add admire agree allow answer appear arrange arrive ask avoid bake become begin believe belong blame
boil borrow bring build burn buy call carry catch change charge check choose clean climb close collect come
compare count cover cross cut decide deliver deny depend describe divide draw drive drop earn eat enjoy
enter escape examine expect explain fail fall feed feel fetch fight fill find finish fix fly fold follow
forget forgive give go grow guess hang happen hate hear help hide hire hold hope hurry hurt invite join
judge jump keep kick know laugh lead learn leave lend let lift like listen live look lose love make mark
marry measure meet mend mix move need notice obey obtain offer open order paint park pass pay pick plan play
point pour praise prefer prepare press print promise protect prove pull push put raise reach read receive
refuse regret remain remember repair repeat reply return ring rise roll run save say see seem sell send
serve sew share shine shout show shut sing sit sleep smell smile speak spend stand start stay steal stop
study succeed suggest suppose swim take talk taste teach tell thank think throw touch train travel trust try
turn use visit wait walk want warn wash watch wear win wish wonder work worry write
""")

LINKS = listed("""
a about above after again all also always among an and any around as at away because before behind below
between both but by down during each either enough even ever every few for from her here his how i if in
into it its just less many maybe more most much my near never no none nor not now of off often on once one
or our out over perhaps quite rather she since so some soon still such than that the their then there these
they this those though through till to today together tomorrow too toward two under until up us very we what
when where which while who whose why will with without yes yesterday yet you your
""")

FIRST_NAMES = listed("""
Adam Agnes Alan Alice Amir Amy Andrew Anita Anna Arthur Barbara Ben Bruno Carla Carlos Caroline Clara Colin
Daniel David Diana Edgar Elena Eliza Emil Emma Eric Ethan Eva Felix Fiona Frank George Grace Greta Hannah
Harry Hassan Helen Henry Hugo Ian Ida Ingrid Irene Isaac Ivan Jack Jacob James Jane Jasper Joan John Jonas
Judith Julia Karen Karl Kate Kevin Kim Laura Leo Lena Liam Linda Louis Lucy Maria Mark Martha Martin Mary
Max Maya Mei Michael Mila Mina Nadia Nathan Nina Noah Nora Olga Oliver Omar Oscar Paul Peter Priya Quentin
Rachel Raj Rita Robert Rosa Ruth Sam Sarah Simon Sofia Stefan Susan Tariq Theo Thomas Tina Tom Ursula Vera
Victor Wanda William Xavier Yara Yusuf Zoe
""")

LAST_NAMES = listed("""
Abbott Adler Ahmed Archer Baker Barnes Becker Bell Bennett Bishop Black Blake Brooks Brown Carter Chen Clark
Cole Cooper Costa Cox Cruz Dale Davis Dixon Duval Edwards Ellis Evans Fisher Fletcher Ford Foster Fox Garcia
Gibson Gomez Grant Gray Green Gupta Hall Hansen Harper Harris Hayes Hill Holmes Howard Hughes Hunt Ito
Jackson Jensen Jones Kaur Kelly Khan King Klein Knight Kumar Lang Larsen Lee Lewis Lopez Lynch Marsh Martin
Mason Meyer Miller Mills Moore Morgan Moss Murphy Nash Nelson Novak Oakley Olsen Owens Page Palmer Parker
Patel Perez Phillips Pike Porter Quinn Ramos Reed Reyes Rice Roberts Rossi Rowe Ryan Sanders Santos Sato
Schmidt Scott Sharp Shaw Silva Simmons Singh Smith Stone Sutton Tanaka Taylor Thorne Tucker Turner Vance
Vaughan Wagner Walker Wallace Walsh Ward Watts Webb West White Wong Wood Wright Yang York Young Zeller Zhang
""")

PLACES = listed("""
Aberdeen Alder Ashford Athens Austin Berlin Boston Brighton Bristol Cairo Calgary Canton Cedar Chester
Coventry Dallas Delhi Denver Dover Dublin Durham Elm Exeter Florence Geneva Granada Hamburg Harlow Hastings
Helsinki Kent Kyoto Leeds Lima Lisbon London Lyon Madrid Malta Maple Milan Monaco Montreal Munich Naples
Newport Norfolk Norwich Oakland Oslo Ottawa Oxford Paris Perth Porto Prague Quebec Quito Reading Richmond
Riga Rome Salem Seattle Seville Sofia Surrey Sydney Tokyo Toledo Toronto Trento Turin Utrecht Venice Vienna
Warsaw Windsor York Zurich
""")

GOODS = listed("""
Apples Bananas Beans Beer Bread Butter Cake Candles Carrots Cereal Cheese Chips Cocoa Coffee Cola Cookies
Corn Crackers Cream Donut Eggs Espresso Flour Garlic Grapes Ham Honey Jam Juice Ketchup Lemon Lettuce Milk
Mints Muffin Mushrooms Mustard Noodles Nuts Oats Oil Olives Onions Oranges Pasta Peaches Pears Peas Pepper
Pizza Plums Popcorn Potatoes Rice Salad Salmon Salt Sausage Soap Soda Soup Spinach Sugar Sushi Tea Toast
Tofu Tomatoes Towels Tuna Vanilla Vinegar Waffles Water Yogurt Batteries Brush Cable Envelopes Gloves Hammer
Hooks Lamp Magnets Nails Notebook Paint Paper Pencils Pens Plates Rope Scissors Screws Socks Sponge Stamps
Tape Wire
""")

GOOD_KINDS = listed("""
fresh large small mini organic sliced frozen dried dark light sweet hot iced green red white brown plain
extra family soft whole salted smoked baked
""")

SHOPS = listed("""
Bakery Books Cafe Deli Diner Express Foods Gallery Garage Garden Gifts Grill Hardware Hotel Kitchen Market
Mart Music Outlet Pharmacy Pizza Shop Store Studio Supplies Tools Toys Traders
""")

SIGNS = listed("""
OPEN CLOSED SALE EXIT ENTRANCE STOP SLOW PARKING TAXI BUS HOTEL BAR CAFE BAKERY BOOKS MARKET STATION
PLATFORM AIRPORT PHARMACY MUSEUM LIBRARY POLICE BANK POST TICKETS TOILETS PUSH PULL DANGER WARNING PRIVATE
CAUTION WELCOME PIZZA COFFEE BREAD FLOWERS GARAGE TO LET FREE NEW FIRE KEEP LEFT RIGHT ONLY NO ENTRY WAY OUT
""")

MONTHS = listed("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")

# Words that fill letters, forms, invoices and reports, beside LINKS.
FORMAL = listed("""
about according account additional address agreement all also amount analysis annual any application approval
area attached attention authority available balance bank based been being board budget business calendar case
change charge check city class code comments committee company complete conditions contact contract control
copies copy cost could country current customer data date days department description design details did
director discount distribution division document does due during each effect employee enclosed equipment error
evaluation facsimile figure file final financial first following form further general given goods government
group had has have health high hours however identification important include including increase individual
industry information intended interest international invoice issue item items large last law legal
less letter level limited list local made management manager manual market marketing material may meeting
member message method million months more must name national necessary new no notice notify number numbers
offer office official only operation order other page pages paid part party payment per percent period person
phone plan please point policy possible present president price prior procedure process product production
products program project promotion provided public purchase purpose quality quantity questions rate reason
receipt receive received recipient record reference regarding register regular report request requests
required research response result results return review sales sample schedule second section see service
services shall should show signature size special specific staff standard state statement status study subject
such sum supervisor supply support system table tax telephone term terms test thank than their these they
this time title total trade transaction type under unit until use used value vendor visit volume was
week well were will within work would year years your
""")
